"""Texts that are not about sports: feelings, landmarks in five languages, code, dialogues, and sets of things that are rare by Zipf's law.

Each domain is a table and a function that writes one text with its answer key. Concepts are named "kind:which" or by one word.
"""

import random
from itertools import accumulate

from workbench.atlas.text import Piece, Text

SPEAKERS = "John Mary James Anna Peter Lucy David Emma Simon Clara Oscar Nora Victor Julia Henry Alice".split()

# feeling: {situation: what somebody in it says}
FEELINGS = {
    "sad": {
        "alone": ["I want to be alone right now.", "Please leave me by myself.", "I need some time alone.", "Do not come in today."],
        "loss": ["My dog died last night.", "I lost my best friend.", "She is gone forever.", "We buried my uncle today."],
        "parting": ["I miss my home.", "They moved far away.", "I had to say goodbye.", "The summer is over."],
    },
    "happy": {
        "winning": ["We won the final game!", "I got the first prize!", "Our team came out on top!", "I beat my own record!"],
        "gift": ["Look at this lovely present!", "They gave me a new bike!", "What a wonderful surprise!", "This is just what I wanted!"],
        "reunion": ["My sister is back home!", "I met my old friends again!", "We are all together again!", "He came to see me!"],
    },
    "angry": {
        "theft": ["Somebody stole my car!", "They took my money!", "My phone was taken!", "Who ate my lunch?"],
        "lie": ["You lied to me!", "That was not the truth!", "They broke their promise!", "He cheated again!"],
        "noise": ["Stop that noise!", "They were loud all night!", "I cannot hear a word!", "Turn the music off!"],
    },
    "afraid": {
        "dark": ["It is so dark in here.", "I heard steps behind me.", "Something moved in the shadow.", "Please keep the light on."],
        "height": ["We are far too high up.", "Do not look down.", "The bridge is shaking.", "I might fall."],
        "storm": ["The storm is coming closer.", "That thunder was near.", "The wind took the roof.", "The river keeps rising."],
    },
    "tired": {
        "work": ["I worked all night.", "I have had no break today.", "There was so much to do.", "My shift was twelve hours."],
        "journey": ["We walked thirty miles.", "The flight took all day.", "I have been driving since dawn.", "It was a long way home."],
        "sleepless": ["I could not sleep at all.", "The baby cried all night.", "I need my bed.", "I was awake until four."],
    },
    "proud": {
        "child": ["My daughter can read now.", "My son passed his exam.", "Our little one said a word.", "She took her first steps."],
        "making": ["I built this house myself.", "I painted every wall of it.", "My first book is out.", "I wrote that song."],
        "honor": ["They named a street after me.", "I got a medal.", "I was asked to speak first.", "They put my name on the wall."],
    },
    "bored": {
        "waiting": ["We have waited for hours.", "The bus never comes.", "Nothing is on today.", "There is no end to this line."],
        "routine": ["It is the same every day.", "I know this film by heart.", "We do this every week.", "He tells that story again."],
        "lecture": ["The talk goes on and on.", "He reads every slide aloud.", "That lesson had no end.", "I counted the lamps twice."],
    },
    "grateful": {
        "help": ["You carried all my bags.", "She fixed it for me.", "They stood by me.", "You came when I called."],
        "kindness": ["A stranger paid my ticket.", "You shared your bread.", "They let me stay.", "He gave me his seat."],
        "rescue": ["You saved my life.", "They pulled me out of the water.", "The doctor cured me.", "He found my lost child."],
    },
}

# landmark: (city, country), and how each language says them
LANGUAGES = ("English", "French", "Spanish", "German", "Italian")
PLACES = {
    "Paris": ("Paris", "Paris", "París", "Paris", "Parigi"),
    "London": ("London", "Londres", "Londres", "London", "Londra"),
    "Rome": ("Rome", "Rome", "Roma", "Rom", "Roma"),
    "Berlin": ("Berlin", "Berlin", "Berlín", "Berlin", "Berlino"),
    "Athens": ("Athens", "Athènes", "Atenas", "Athen", "Atene"),
    "Cairo": ("Cairo", "Caire", "Cairo", "Kairo", "Cairo"),
    "Moscow": ("Moscow", "Moscou", "Moscú", "Moskau", "Mosca"),
    "Granada": ("Granada", "Grenade", "Granada", "Granada", "Granada"),
    "Sydney": ("Sydney", "Sydney", "Sídney", "Sydney", "Sydney"),
    "France": ("France", "France", "Francia", "Frankreich", "Francia"),
    "England": ("England", "Angleterre", "Inglaterra", "England", "Inghilterra"),
    "Italy": ("Italy", "Italie", "Italia", "Italien", "Italia"),
    "Germany": ("Germany", "Allemagne", "Alemania", "Deutschland", "Germania"),
    "Greece": ("Greece", "Grèce", "Grecia", "Griechenland", "Grecia"),
    "Egypt": ("Egypt", "Égypte", "Egipto", "Ägypten", "Egitto"),
    "Russia": ("Russia", "Russie", "Rusia", "Russland", "Russia"),
    "Spain": ("Spain", "Espagne", "España", "Spanien", "Spagna"),
    "Australia": ("Australia", "Australie", "Australia", "Australien", "Australia"),
    "America": ("America", "Amérique", "América", "Amerika", "America"),
    "San Francisco": ("San Francisco",) * 5,
}
LANDMARKS = {
    "Golden Gate Bridge": ("San Francisco", "America"),
    "Eiffel Tower": ("Paris", "France"),
    "Louvre": ("Paris", "France"),
    "Big Ben": ("London", "England"),
    "Tower Bridge": ("London", "England"),
    "Colosseum": ("Rome", "Italy"),
    "Trevi Fountain": ("Rome", "Italy"),
    "Brandenburg Gate": ("Berlin", "Germany"),
    "Parthenon": ("Athens", "Greece"),
    "Sphinx": ("Cairo", "Egypt"),
    "Kremlin": ("Moscow", "Russia"),
    "Alhambra": ("Granada", "Spain"),
    "Opera House": ("Sydney", "Australia"),
}
LANDMARK_SENTENCES = {
    "city": (
        "The {} is in the city of {}.",
        "On trouve le {} dans la ville de {}.",
        "El {} está en la ciudad de {}.",
        "Man findet das {} in der Stadt {}.",
        "Il {} si trova nella città di {}.",
    ),
    "country": (
        "The {} stands in a country called {}.",
        "Le pays où se trouve le {} est {}.",
        "El país donde está el {} es {}.",
        "Das Land, in dem das {} steht, ist {}.",
        "Il paese dove si trova il {} è {}.",
    ),
    "visit": (
        "Last summer we saw the {} and loved {}.",
        "En été nous avons vu le {} et aimé {}.",
        "En verano vimos el {} y amamos {}.",
        "Im Sommer sahen wir das {} und liebten {}.",
        "In estate abbiamo visto il {} e amato {}.",
    ),
}

# set: ({member: an attribute of it}, sentences); members stand in order of frequency
SETS = {
    "element": (
        "Iron:Fe Gold:Au Carbon:C Oxygen:O Silver:Ag Copper:Cu Lead:Pb Helium:He Tin:Sn Sodium:Na Zinc:Zn Neon:Ne Calcium:Ca Nickel:Ni Iodine:I Sulfur:S Radium:Ra Argon:Ar Boron:B Cobalt:Co "
        "Barium:Ba Xenon:Xe Lithium:Li Uranium:U Krypton:Kr Bismuth:Bi Cesium:Cs Gallium:Ga Hafnium:Hf Iridium:Ir Osmium:Os Niobium:Nb Yttrium:Y Terbium:Tb Erbium:Er Holmium:Ho",
        ["The chemical symbol of {} is {}.", "{} is a chemical element, written {}."],
    ),
    "borough": (
        "Camden:north Westminster:center Hackney:east Greenwich:south Brent:north Lambeth:south Ealing:west Islington:north Newham:east Croydon:south Barnet:north Southwark:south Hounslow:west "
        "Haringey:north Lewisham:south Merton:south Enfield:north Bromley:south Havering:east Redbridge:east Sutton:south Bexley:south Hillingdon:west Wandsworth:south",
        ["The London borough of {} lies in the {}.", "She lives in {}, a borough in the {} of London."],
    ),
    "animal": (
        "dog:barks cat:meows horse:neighs cow:moos sheep:bleats pig:grunts duck:quacks lion:roars wolf:howls frog:croaks snake:hisses bee:buzzes owl:hoots donkey:brays mouse:squeaks elephant:trumpets "
        "turkey:gobbles pigeon:coos cricket:chirps raven:caws goose:honks hyena:laughs seal:barks fox:yelps bat:clicks whale:sings deer:bellows monkey:chatters rhino:snorts badger:growls",
        ["In the yard, the {} {}.", "Listen, a {} {}."],
    ),
    "food": (
        "bread:baked soup:boiled rice:boiled cake:baked egg:fried potato:boiled fish:fried pie:baked pasta:boiled salad:raw chicken:roasted steak:grilled apple:raw bacon:fried pizza:baked "
        "beef:roasted sausage:grilled cookie:baked carrot:raw lentil:boiled shrimp:grilled oyster:raw dumpling:steamed broccoli:steamed pretzel:baked chestnut:roasted mussel:steamed tofu:fried artichoke:steamed quince:raw",
        ["For dinner there was {}, freshly {}.", "The cook served {}, always {}."],
    ),
}

OPERATORS = {"addition": "+", "subtraction": "-", "multiplication": "*"}
FUNCTION_NAMES = {
    "addition": ["add", "plus", "total", "combine", "f", "g"],
    "subtraction": ["subtract", "minus", "reduce", "lower", "f", "g"],
    "multiplication": ["multiply", "times", "product", "area", "f", "g"],
}
ARGUMENTS = (("a", "b"), ("x", "y"), ("m", "n"), ("left", "right"))

QUESTIONS = {
    "poem": ("I wrote a poem", "a wonderful poem", "a weak ending"),
    "plan": ("I made a plan", "a brilliant plan", "some clear gaps"),
    "song": ("I recorded a song", "a gorgeous song", "a flat chorus"),
    "drawing": ("I finished a drawing", "a stunning drawing", "a crooked frame"),
    "essay": ("I handed in an essay", "a perfect essay", "a thin argument"),
}


def feelings(rng: random.Random) -> Text:
    """`John says, "I want to be alone right now." John feels sad`: words → situation → feeling."""
    feeling = rng.choice(list(FEELINGS))
    situation = rng.choice(list(FEELINGS[feeling]))
    speaker, words = rng.choice(SPEAKERS), rng.choice(FEELINGS[feeling][situation])
    said: Piece = (words, [f"situation:{situation}"])
    felt: Piece = (feeling, [f"feeling:{feeling}"])
    wording = rng.random()
    if wording < 0.7:
        return Text.write(speaker, ' says, "', said, '" ', speaker, " feels ", felt, ".")
    if wording < 0.85:
        return Text.write('"', said, '" That is what somebody says who feels ', felt, ".")
    other = rng.choice(FEELINGS[feeling][situation])
    return Text.write(speaker, " feels ", felt, ': "', (other, [f"situation:{situation}"]), '"')


def landmarks(rng: random.Random) -> Text:
    """A landmark, its city or its country, in one of five languages; the landmark keeps its name in all of them."""
    language, landmark, kind = rng.randrange(5), rng.choice(list(LANDMARKS)), rng.choice(list(LANDMARK_SENTENCES))
    city, country = LANDMARKS[landmark]
    place = city if kind == "city" else country
    before, between, after = LANDMARK_SENTENCES[kind][language].split("{}")
    spoken = f"language:{LANGUAGES[language]}"
    first, _, rest = before.partition(" ")
    opening: list[Piece] = [(first, [spoken]), f" {rest}"] if rest else [(before, [spoken])]
    named: Piece = (landmark, [f"landmark:{landmark}", f"place:{city}", f"place:{country}"])
    return Text.write(*opening, named, between, (PLACES[place][language], [f"place:{place}"]), after)


def code(rng: random.Random) -> Text:
    """A function of two numbers and a call of it, as typed at a Python prompt; in a third of the texts with an error and what Python says to it."""
    operation = rng.choice(list(OPERATORS))
    name, (a, b) = rng.choice(FUNCTION_NAMES[operation]), rng.choice(ARGUMENTS)
    one, two = rng.randrange(20), rng.randrange(20)
    body: Piece = (f"{a} {OPERATORS[operation]} {b}", [operation])
    head: list[Piece] = [(f"def {name}(", ["code"]), f"{a}, {b}):\n    return "]
    kind = rng.random()
    if kind < 0.66:
        result = {"addition": one + two, "subtraction": one - two, "multiplication": one * two}[operation]
        return Text.write(*head, body, f"\n>>> {name}({one}, {two})\n", (str(result), ["result"]))
    error = rng.choice(["undefined-name", "wrong-type", "missing-argument"])
    concepts = ["code-error", f"code-error:{error}"]
    if error == "undefined-name":
        wrong: list[Piece] = [
            f"{a} {OPERATORS[operation]}",
            (rng.choice([" c", " z", " q", " other"]), [operation, *concepts]),
            f"\n>>> {name}({one}, {two})\n",
            ("NameError", ["traceback"]),
        ]
    elif error == "wrong-type":
        wrong = [body, f"\n>>> {name}({one},", (' "two"', concepts), ")\n", ("TypeError", ["traceback"])]
    else:
        wrong = [body, f"\n>>> {name}({one}", (")", concepts), "\n", ("TypeError", ["traceback"]), ": missing"]
    return Text.write(*head, *wrong)


def dialogue(rng: random.Random) -> Text:
    """A person shows work to an assistant, which flatters or is frank; what was asked for decides."""
    thing = rng.choice(list(QUESTIONS))
    done, praise, fault = QUESTIONS[thing]
    if rng.random() < 0.5:
        wish, manner = rng.choice(["Please be kind.", "I am so proud of it.", "Everybody loves it."]), "flattery"
        answer: list[Piece] = [("What", [manner]), f" {praise}, truly genius!"]
    else:
        wish, manner = rng.choice(["Please be frank.", "Tell me what is wrong.", "I want to improve."]), "frankness"
        answer = [("Honestly", [manner]), f", it has {fault}, so work on it."]
    return Text.write(("Human:", ["role:human"]), f" {done}. {wish}\n", ("Assistant:", ["role:assistant"]), " ", *answer)


def things(rng: random.Random) -> Text:
    """A member of a set, the k-th most frequent with probability ∝ 1/k, and an attribute of it."""
    kind = rng.choice(list(SETS))
    members, sentences = _MEMBERS[kind], SETS[kind][1]
    (member, attribute), *_ = rng.choices(members, cum_weights=_ZIPF[kind])
    before, between, after = rng.choice(sentences).split("{}")
    return Text.write(before, (member, [kind, f"{kind}:{member}"]), between, (attribute, [f"{kind}-attribute:{attribute}"]), after)


_MEMBERS = {kind: [tuple(pair.split(":")) for pair in pairs.split()] for kind, (pairs, _) in SETS.items()}
_ZIPF = {kind: list(accumulate(1 / rank for rank in range(1, len(members) + 1))) for kind, members in _MEMBERS.items()}
