"""A small text about nothing in particular, in plain English: what a model is tried on where no texts are given."""

PARAGRAPHS = (
    "The library opens at nine in the morning and closes at eight in the evening, except on Sundays, when it stays closed all day. "
    "Books may be kept for three weeks. If you need more time, you can ask for it at the desk or by telephone.",
    "Water boils at a lower temperature in the mountains than at the sea, because there is less air above it to press down. "
    "That is why it takes longer to cook potatoes in a high village, even though the water boils sooner.",
    '"Are you coming with us?" asked Anna. Her brother looked out of the window at the rain. "Not today," he said. "Tomorrow, perhaps, '
    'if the weather is better." She took her coat and her umbrella, and went out alone.',
    "To make a simple bread, mix 500 grams of flour with a little salt, some yeast and about 350 grams of warm water. Let the dough rest "
    "for an hour, until it is twice as large. Bake it in a hot oven for 40 minutes and let it cool before you cut it.",
    "The first railway line in the country was built in 1838. It was only a few miles long, but within twenty years there were trains "
    "between all of the large cities, and a journey that had taken three days took an afternoon.",
    "Most birds that leave in autumn come back in spring to the place where they were born. How they find the way is not fully known: they "
    "use the sun and the stars, the shape of the coast, and the magnetic field of the Earth.",
    "The committee met on Tuesday to discuss the new budget. After a long debate it was agreed that the old bridge should be repaired "
    "before winter, and that the school on Mill Street would get two new classrooms next year.",
    "A triangle has three sides and three angles, and the angles always add up to 180 degrees. A square has four sides of the same length. "
    "If you cut a square from corner to corner, you get two triangles that are exactly alike.",
    "He had lived in the same house for thirty years, and he knew every sound that it made at night. So when he heard a step on the "
    "stairs, he knew at once that it was not the wind. He sat up, reached for the lamp, and waited.",
    "Before you send the form, please check that your name, your address and your date of birth are correct. Do not forget to sign it on "
    "the second page. You will receive an answer by mail within ten working days.",
    "In the last minute of the game the home team scored again, and the crowd jumped to its feet. It was their third victory in a row. "
    '"We worked hard for this," said the coach after the match, "and the players deserve all of the credit."',
    "Light from the Sun needs about eight minutes to reach us. Light from the nearest other star needs more than four years. When we look "
    "at the night sky, we therefore see the stars as they were in the past, some of them long before there were people.",
)
