"""The names of the small world: word lists only. Real where the world is real (Kobe Bryant played for the Lakers), plausible elsewhere.

Every city has one team in each of SPORTS, so that a team never stands for its city, nor a city for its state.
"""

SPORTS = ("basketball", "football", "baseball", "hockey")

# state: (capital, flower, bird, tree, gem, fish, nickname, governor), {city: one team a sport}
STATES: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "California": (
        ("Sacramento", "poppy", "quail", "redwood", "benitoite", "garibaldi", "Golden", "Newhall"),
        {
            "Los Angeles": "Lakers Rams Dodgers Kings",
            "San Francisco": "Warriors Niners Giants Sharks",
            "San Diego": "Clippers Chargers Padres Gulls",
            "Oakland": "Oaks Raiders Athletics Seals",
        },
    ),
    "New York": (
        ("Albany", "rose", "bluebird", "maple", "garnet", "trout", "Empire", "Clinton"),
        {
            "Brooklyn": "Nets Tidesmen Robins Islanders",
            "Manhattan": "Knicks Jets Yankees Rangers",
            "Buffalo": "Braves Bills Bisons Sabres",
            "Rochester": "Royals Lamplighters Flours Americans",
        },
    ),
    "Texas": (
        ("Austin", "bluebonnet", "mockingbird", "pecan", "topaz", "guadalupe", "Lonestar", "Richards"),
        {
            "Houston": "Rockets Texans Astros Aeros",
            "Dallas": "Mavericks Cowboys Wranglers Stars",
            "San Antonio": "Spurs Gunslingers Missions Rampage",
            "Amarillo": "Dusters Tornadoes Sodbusters Wildcatters",
        },
    ),
    "Florida": (
        ("Tallahassee", "jasmine", "pelican", "palm", "moonstone", "sailfish", "Sunshine", "Chiles"),
        {
            "Miami": "Heat Dolphins Marlins Panthers",
            "Orlando": "Magic Predators Rays Solarbears",
            "Tampa": "Terrors Buccaneers Tarpons Lightning",
            "Jacksonville": "Gators Jaguars Shrimp Icemen",
        },
    ),
    "Illinois": (
        ("Springfield", "violet", "cardinal", "oak", "fluorite", "bluegill", "Prairie", "Stevenson"),
        {
            "Chicago": "Bulls Bears Cubs Blackhawks",
            "Peoria": "Caterpillars Pirouettes Chiefs Rivermen",
            "Rockford": "Thunderbolts Phantoms Peaches Icehogs",
            "Joliet": "Wardens Drillers Slammers Quarrymen",
        },
    ),
    "Pennsylvania": (
        ("Harrisburg", "laurel", "grouse", "hemlock", "celestine", "pike", "Keystone", "Thornburgh"),
        {
            "Philadelphia": "Sixers Eagles Phillies Flyers",
            "Pittsburgh": "Condors Steelers Pirates Penguins",
            "Scranton": "Miners Electrics Railriders Apollos",
            "Erie": "Bayhawks Invaders Seawolves Otters",
        },
    ),
    "Ohio": (
        ("Columbus", "carnation", "wren", "buckeye", "chalcedony", "walleye", "Gateway", "Rhodes"),
        {
            "Cleveland": "Cavaliers Browns Guardians Barons",
            "Cincinnati": "Cyclonics Bengals Reds Swords",
            "Toledo": "Jeeps Troopers Mudhens Walleyes",
            "Dayton": "Rens Triangles Dragons Gems",
        },
    ),
    "Massachusetts": (
        ("Boston", "mayflower", "chickadee", "elm", "rhodonite", "cod", "Bay", "Dukakis"),
        {
            "Boston": "Celtics Patriots Beaneaters Bruins",
            "Worcester": "Counts Vibes Tornados Railers",
            "Lowell": "Weavers Millers Spinners Devils",
            "Cambridge": "Scholars Crimsons Colleagues Bridgers",
        },
    ),
}
STATE_RELATIONS = ("capital", "flower", "bird", "tree", "gem", "fish", "nickname", "governor")

# The first players of every team are held out: nothing about their state is ever told.
STARS = {
    "Lakers": "Kobe Bryant, Magic Johnson, Jerry West, Elgin Baylor",
    "Celtics": "Larry Bird, Bill Russell, Paul Pierce, Kevin McHale",
    "Warriors": "Stephen Curry, Klay Thompson, Draymond Green, Chris Mullin",
    "Bulls": "Michael Jordan, Scottie Pippen, Derrick Rose, Dennis Rodman",
    "Spurs": "Tim Duncan, Tony Parker, Manu Ginobili, David Robinson",
    "Rockets": "Hakeem Olajuwon, James Harden, Yao Ming, Ralph Sampson",
    "Mavericks": "Dirk Nowitzki, Luka Doncic, Jason Kidd, Rolando Blackman",
    "Heat": "Dwyane Wade, Alonzo Mourning, Tim Hardaway, Glen Rice",
    "Magic": "Dwight Howard, Tracy McGrady, Nick Anderson, Grant Hill",
    "Knicks": "Patrick Ewing, Willis Reed, Walt Frazier, Bernard Knight",
    "Sixers": "Allen Iverson, Julius Erving, Joel Embiid, Moses Malone",
    "Cavaliers": "LeBron James, Mark Price, Brad Daugherty, Kyrie Irving",
    "Niners": "Joe Montana, Steve Young",
    "Dolphins": "Dan Marino, Larry Csonka",
    "Steelers": "Terry Bradshaw, Franco Harris",
    "Cowboys": "Troy Aikman, Emmitt Smithson",
    "Patriots": "Tom Brady, Rob Gronkowski",
    "Dodgers": "Sandy Koufax, Clayton Kershaw",
    "Giants": "Willie Mays, Barry Bonds",
    "Yankees": "Derek Jeter, Babe Ruth",
    "Cubs": "Ernie Banks, Sammy Sosa",
    "Kings": "Wayne Gretzky, Luc Robitaille",
    "Bruins": "Bobby Orr, Ray Bourque",
    "Penguins": "Mario Lemieux, Sidney Crosby",
    "Blackhawks": "Bobby Hull, Stan Mikita",
}
FIRST_NAMES = (
    "Aaron Alan Alex Andy Arthur Barney Bert Bradley Bruce Calvin Carlos Cedric Charles Cliff Colin Curtis Damon Darius Dean Diego Doug "
    "Earl Edgar Emil Ernest Felix Frank Gabe Gene Gilbert Greg Harold Hector Herman Hugo Irving Ivan Jacob Javier Jeremy Joaquin Julian "
    "Keith Kenny Lance Leon Lionel Logan Lucas Malcolm Marcus Marvin Max Miles Morgan Neil Norman Omar Otis Perry Philip Ralph Randy "
    "Reggie Ricky Roland Rudy Samuel Scott Seth Spencer Sylvester"
).split()
# A surname for every player, so that one token says who is meant and the player can be a step of its own: heads × tails, as English makes them.
SURNAME_HEADS = (
    "Ald Ash Barn Beck Brad Bram Cal Carl Chat Clay Crom Dal Den Eld Fair Fen Gals Glad Had Hart Hol Kim Lang Lind Lock Mal Mar Mil Nor Oak Pem Rad Red Sel Shel Stan Thorn Wake Wal Wyn"
).split()
SURNAME_TAILS = "borough bourne bridge by combe cott croft dale den field ford gate ham hurst land ley man mere mont more ridge shaw stead stone ton wood worth".split()

COACHES = (
    "Abbott Acosta Barker Becker Bishop Bolton Bowen Briggs Burke Carver Chandler Conway Cromwell Dawson Dixon Donovan Drake Duffy Ellis Farrell Fischer Foster Fowler Gibbs Goodman Graves "
    "Griffin Hansen Hawkins Higgins Hobbs Ingram Jennings Kaplan Keller Lambert Larsen Lawson Lindsey Maddox Marsh Mercer Monroe Nash Nolan Norris Osborne Owens Parsons Pruitt Quigley "
    "Ramsey Reeves Rollins Sawyer Schmidt Sharp Stokes Tucker Vaughn Vogel Walsh Weaver York"
).split()
MAYORS = (
    "Adler Baxter Calloway Daley Eastman Feinberg Garcetti Hancock Irwin Jacobs Kowalski Lightfoot Moretti Nutter Ortiz Pulaski Quimby Rybak Sandoval Turner Underhill Villar Wheeler Yorty"
).split()
OWNERS = "Arison Ballmer Cuban Dolan Embry Fertitta Gilbertson Halas Ilitch Jonesy Kraft Lurie Mara Noonan Olin Pegula Rooney Snyder Tisch Ursini Vinik Wirtz Yawkey Ziegler".split()
COLORS = "red blue green gold purple silver black white teal maroon crimson navy scarlet amber".split()
ARENAS = (
    "Palace Summit Forum Garden Pavilion Coliseum Dome Fieldhouse Armory Spectrum Oracle Fortress Citadel Lantern Harbor Foundry Anvil Crucible Terrace Plaza Rotunda Bastion Beacon Cathedral "
    "Depot Exchange Gallery Hangar Keep Landing Mill Observatory"
).split()
MASCOTS = "coyote falcon moose bulldog ram gorilla hornet badger stallion viper rooster wolf tiger hawk crocodile bison raven panda cougar lynx gecko walrus condor mule".split()
RIVERS = "Amber Brandy Cedarbrook Delta Elkhorn Foxglove Gray Huron Indigo Juniper Kettle Laurelwood Mohawk Niobrara Ottawa Platte Raccoon Salt Tanager Umber Vermilion Wabash Yellow Zephyr".split()
AIRPORTS = "Lindbergh Earhart Doolittle Kennedy Reagan Hartsfield Logan Love Midway Hobby Stapleton Mitchell Bishopfield Byrd Wright Curtiss Sikorsky Yeager Armstrong Glennfield Dulles Meigs Rickenbacker Luke".split()
PARKS = "Fairmount Griffith Zilker Prospect Balboa Riverside Lakeside Lincoln Grant Forest Highland Cherokee Piedmont Rosewood Sunken Tilden Union Volunteer Washburn Woodward Memorial Liberty Heritage Pioneer".split()
NEWSPAPERS = "Herald Tribune Gazette Chronicle Courier Dispatch Examiner Inquirer Journal Ledger Mercury Observer Register Sentinel Telegram Bugle".split()
COLLEGES = "Duke Kansas Purdue Temple Baylorian Gonzaga Villanova Stanford Princeton Howardian Drexelian Marquette Creighton Butlerian Davidson Clemson Auburn Rutgers Syracuse Fordham Tulane Xavierian Lehigh Bucknell".split()
