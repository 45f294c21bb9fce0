//! The grammar: templates whose slots are filled with words, and paragraphs made of templates.

use std::fmt::Write as _;

use crate::rng::Rng;

const HEROES: &[&str] = &[
    "Mara", "Tom", "Edda", "Jonas", "Ines", "Piet", "Nora", "Silas", "Greta", "Hugo", "Lena", "Oskar", "Ruth", "Anton",
    "Clara", "Felix", "Ida", "Bruno", "Vera", "Emil",
];
const THINGS: &[&str] = &[
    "lantern", "kettle", "compass", "ladder", "basket", "fiddle", "hammer", "mirror", "letter", "clock", "blanket",
    "wheel", "candle", "bucket", "map", "key", "chest", "bell", "coat", "boat", "book", "rope", "saddle", "barrel",
];
const PLACES: &[&str] = &[
    "mill",
    "harbour",
    "market",
    "orchard",
    "tower",
    "bakery",
    "stable",
    "library",
    "bridge",
    "garden",
    "cellar",
    "school",
    "forge",
    "station",
    "chapel",
    "quarry",
    "lighthouse",
    "workshop",
];
const ADJECTIVES: &[&str] = &[
    "old", "small", "heavy", "bright", "broken", "quiet", "narrow", "wooden", "green", "strange", "cold", "empty",
    "golden", "dusty", "clean", "hidden", "round", "plain", "rusty", "warm",
];
const ANIMALS: &[&str] = &["dog", "crow", "goat", "cat", "horse", "owl", "fox", "goose", "hare", "donkey"];
const TRADES: &[&str] = &["miller", "baker", "smith", "sailor", "teacher", "weaver", "carpenter", "doctor", "farmer"];
const FEELINGS: &[&str] = &["glad", "tired", "curious", "hungry", "proud", "worried", "patient", "surprised", "calm"];
const TIMES: &[&str] =
    &["In the morning", "At noon", "After supper", "That evening", "The next day", "Before dawn", "On Sunday", "Later"];
const WEATHERS: &[&str] = &["rain", "snow", "fog", "sun", "hail", "drizzle", "clear sky", "thunder"];
const WINDS: &[&str] = &["north", "east", "south", "west"];
const GOODS: &[&str] = &["wool", "salt", "tin", "grain", "honey", "timber", "wine", "iron", "cheese", "rope"];
const FOODS: &[&str] =
    &["onions", "carrots", "pears", "plums", "eggs", "apples", "turnips", "beans", "leeks", "walnuts", "loaves"];
const DISHES: &[&str] = &["barley soup", "plum cake", "onion pie", "bean stew", "walnut bread", "apple pudding"];
const NUMBERS: &[&str] = &[
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
];

/// Towns of the small world: name, river, what it is known for, who founded it, when. The same in every corpus.
const TOWNS: &[(&str, &str, &str, &str, u32)] = &[
    ("Aldmoor", "Wend", "glass", "Anna Holt", 1204),
    ("Brackwater", "Sill", "salt", "Peter Crane", 1187),
    ("Carrow", "Wend", "wool", "Agnes Thorne", 1251),
    ("Dunfell", "Arrel", "iron", "Otto Marsh", 1310),
    ("Eastmere", "Loam", "cheese", "Hilda Venn", 1422),
    ("Farrowby", "Sill", "pottery", "John Askew", 1098),
    ("Grimsholt", "Arrel", "timber", "Ulf Garrick", 1276),
    ("Hollin", "Loam", "honey", "Martha Penn", 1365),
    ("Ivelcombe", "Tarn", "paper", "Simon Lisle", 1493),
    ("Kestrel", "Tarn", "clocks", "Edith Rowe", 1540),
    ("Larkrise", "Wend", "wine", "Walter Quill", 1333),
    ("Marram", "Sill", "boats", "Joan Tiller", 1160),
];

const STORY_OPENINGS: &[&str] = &[
    "{hero} the {trade} lived near the {place} in {town} with {a adjective} {animal}.",
    "Once there was a {trade} called {hero}, who kept {a adjective} {thing} in the {place}.",
    "{hero} had been looking for the {thing} since the {weather} came to {town}.",
    "Nobody in {town} knew why {hero} carried {a adjective} {thing} everywhere.",
];
const STORY_MIDDLES: &[&str] = &[
    "{time} {hero} took the {thing} and walked to the {place}.",
    "\"Have you seen my {thing}?\" asked {hero}. \"It is in the {place},\" said {friend}.",
    "The {animal} followed {hero} through the {adjective} {place} and did not make a sound.",
    "{friend} was {feeling}, because the {thing} was {adjective} and the {place} was far away.",
    "{time} {friend} gave {hero} {a adjective} {other} in return for the {thing}.",
    "There was {weather} over {town}, and the wind came from the {wind}.",
    "{hero} put the {thing} beside {a adjective} {other} and waited for {friend}.",
    "\"We need the {thing} before the {weather} comes,\" said {hero}.",
    "\"You look {feeling},\" said {friend}. \"I am {feeling},\" said {hero}, \"but the {thing} is safe.\"",
    "{friend} opened the door of the {place} and found {a adjective} {other} behind it.",
    "They talked about the {trade} from {town} who had lost {a adjective} {other}.",
];
const STORY_ENDINGS: &[&str] = &[
    "So {hero} kept the {thing}, and {friend} went home {feeling}.",
    "From that day on the {thing} stayed in the {place}, and {hero} was {feeling}.",
    "In the end {friend} and {hero} carried the {thing} back to {town} together.",
    "And the {animal} slept beside the {thing} until the {weather} was over.",
];

/// The words that stay the same through a paragraph.
struct Scene {
    hero: &'static str,
    friend: &'static str,
    thing: &'static str,
    place: &'static str,
    town: &'static str,
    trade: &'static str,
    animal: &'static str,
    weather: &'static str,
}

impl Scene {
    fn new(rng: &mut Rng) -> Self {
        let hero = pick(HEROES, rng);
        let friend = loop {
            let friend = pick(HEROES, rng);
            if friend != hero {
                break friend;
            }
        };
        Self {
            hero,
            friend,
            thing: pick(THINGS, rng),
            place: pick(PLACES, rng),
            town: TOWNS[rng.below(TOWNS.len() as u64) as usize].0,
            trade: pick(TRADES, rng),
            animal: pick(ANIMALS, rng),
            weather: pick(WEATHERS, rng),
        }
    }

    /// Appends a template with its slots filled; `{a adjective}` takes the right article.
    fn fill(&self, template: &str, rng: &mut Rng, out: &mut String) {
        let mut rest = template;
        while let Some((before, slot, after)) =
            rest.split_once('{').and_then(|(before, tail)| tail.split_once('}').map(|(s, after)| (before, s, after)))
        {
            out.push_str(before);
            match slot {
                "hero" => out.push_str(self.hero),
                "friend" => out.push_str(self.friend),
                "thing" => out.push_str(self.thing),
                "place" => out.push_str(self.place),
                "town" => out.push_str(self.town),
                "trade" => out.push_str(self.trade),
                "animal" => out.push_str(self.animal),
                "weather" => out.push_str(self.weather),
                "adjective" => out.push_str(pick(ADJECTIVES, rng)),
                "other" => out.push_str(pick(THINGS, rng)),
                "feeling" => out.push_str(pick(FEELINGS, rng)),
                "time" => out.push_str(pick(TIMES, rng)),
                "wind" => out.push_str(pick(WINDS, rng)),
                "a adjective" => {
                    let adjective = pick(ADJECTIVES, rng);
                    out.push_str(if adjective.starts_with(['a', 'e', 'i', 'o', 'u']) { "an " } else { "a " });
                    out.push_str(adjective);
                }
                other => out.push_str(other),
            }
            rest = after;
        }
        out.push_str(rest);
    }
}

/// English text of `bytes` bytes or up to a paragraph more, ASCII, in paragraphs with an empty line between them. The same
/// seed always gives the same text, and a longer text starts with the shorter one.
#[must_use]
pub fn corpus(seed: u64, bytes: usize) -> String {
    let mut rng = Rng::stream(seed, 0x7465_7874);
    let mut text = String::with_capacity(bytes + 2048);
    while text.len() < bytes {
        match rng.below(16) {
            0..6 => story(&mut rng, &mut text),
            6..8 => facts(&mut rng, &mut text),
            8..10 => questions(&mut rng, &mut text),
            10..12 => sums(&mut rng, &mut text),
            12..14 => ledger(&mut rng, &mut text),
            14 => recipe(&mut rng, &mut text),
            _ => weather(&mut rng, &mut text),
        }
        text.push('\n');
    }
    text
}

fn pick(words: &[&'static str], rng: &mut Rng) -> &'static str {
    words[rng.below(words.len() as u64) as usize]
}

fn story(rng: &mut Rng, out: &mut String) {
    let scene = Scene::new(rng);
    scene.fill(pick(STORY_OPENINGS, rng), rng, out);
    for _ in 0..3 + rng.below(5) {
        out.push(' ');
        scene.fill(pick(STORY_MIDDLES, rng), rng, out);
    }
    out.push(' ');
    scene.fill(pick(STORY_ENDINGS, rng), rng, out);
    out.push('\n');
}

fn facts(rng: &mut Rng, out: &mut String) {
    for _ in 0..2 + rng.below(3) {
        let (town, river, known_for, founder, year) = TOWNS[rng.below(TOWNS.len() as u64) as usize];
        // Writing to a String cannot fail.
        let _ = match rng.below(4) {
            0 => writeln!(out, "The town of {town} lies on the river {river} and is known for its {known_for}."),
            1 => writeln!(out, "{town} was founded by {founder} in the year {year}."),
            2 => writeln!(out, "In {year} {founder} built the first house of {town}, beside the {river}."),
            _ => writeln!(out, "People come to {town} to buy {known_for}, and boats bring it down the {river}."),
        };
    }
}

fn questions(rng: &mut Rng, out: &mut String) {
    for _ in 0..2 + rng.below(2) {
        let (town, river, known_for, founder, year) = TOWNS[rng.below(TOWNS.len() as u64) as usize];
        let _ = match rng.below(4) {
            0 => writeln!(out, "Question: which river runs through {town}? Answer: the {river}."),
            1 => writeln!(out, "Question: who founded {town}? Answer: {founder}."),
            2 => writeln!(out, "Question: when was {town} founded? Answer: in {year}."),
            _ => writeln!(out, "Question: what is {town} known for? Answer: its {known_for}."),
        };
    }
}

fn sums(rng: &mut Rng, out: &mut String) {
    for _ in 0..3 + rng.below(3) {
        let (a, b) = (rng.below(10), rng.below(10));
        let food = pick(FOODS, rng);
        let word = |number: u64| NUMBERS[number as usize];
        let _ = match rng.below(4) {
            0 => writeln!(out, "{a} + {b} = {}", a + b),
            1 => writeln!(out, "{} - {b} = {a}", a + b),
            2 => writeln!(out, "{a} * {b} = {}", a * b),
            _ => writeln!(out, "{} {food} and {} {food} make {} {food}.", word(a), word(b), word(a + b)),
        };
    }
}

fn ledger(rng: &mut Rng, out: &mut String) {
    let (town, trader) = (TOWNS[rng.below(TOWNS.len() as u64) as usize].0, pick(HEROES, rng));
    let _ = writeln!(out, "ledger of {trader}, {town}:");
    let mut total = 0;
    for _ in 0..2 + rng.below(3) {
        let (good, price) = (pick(GOODS, rng), 1 + rng.below(9));
        total += price;
        let _ = writeln!(out, "  {good}: {price} crowns, so far {total}");
    }
    let _ = writeln!(out, "  total: {total} crowns, paid by {trader}");
}

fn recipe(rng: &mut Rng, out: &mut String) {
    let dish = pick(DISHES, rng);
    let (first, second) = (pick(FOODS, rng), pick(FOODS, rng));
    let (few, many) = (2 + rng.below(4) as usize, 5 + rng.below(6) as usize);
    let _ = writeln!(
        out,
        "To make {dish}, take {} {first} and {} {second}. Cut the {first}, wash the {second}, and put them in a pot with \
         salt. Let the {dish} stand for {} hours, then share it.",
        NUMBERS[few], NUMBERS[many], NUMBERS[few]
    );
}

fn weather(rng: &mut Rng, out: &mut String) {
    let town = TOWNS[rng.below(TOWNS.len() as u64) as usize].0;
    let first = 1 + rng.below(20);
    for day in first..first + 3 + rng.below(4) {
        let (wind, sky) = (pick(WINDS, rng), pick(WEATHERS, rng));
        let _ = writeln!(out, "{town}, day {day}: wind from the {wind}, {sky}, {} degrees", rng.below(30));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_reproducible_and_whole() {
        let text = corpus(3, 200_000);
        assert!(text.len() >= 200_000 && text.len() < 202_000 && text.is_ascii());
        assert!(!text.contains(['{', '}']), "every slot is filled");
        assert_eq!(corpus(3, 200_000), text);
        assert!(text.starts_with(&corpus(3, 10_000)));
        assert_ne!(corpus(4, 1_000), corpus(3, 1_000));
        for known in ["Question: ", " + ", "ledger of ", "To make ", "day ", "said "] {
            assert!(text.contains(known), "{known}");
        }
    }

    #[test]
    fn every_template_has_only_known_slots() {
        let mut rng = Rng::new(1);
        let scene = Scene::new(&mut rng);
        let known = [
            "hero",
            "friend",
            "thing",
            "place",
            "town",
            "trade",
            "animal",
            "weather",
            "adjective",
            "other",
            "feeling",
            "time",
            "wind",
            "a adjective",
        ];
        for template in [STORY_OPENINGS, STORY_MIDDLES, STORY_ENDINGS].concat() {
            for slot in template.split('{').skip(1).filter_map(|tail| tail.split('}').next()) {
                assert!(known.contains(&slot), "{slot}");
            }
            let mut out = String::new();
            scene.fill(template, &mut rng, &mut out);
            assert!(out.ends_with(['.', '"']));
        }
    }
}
