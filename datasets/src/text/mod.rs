//! The text that the small models learn from: English made at run time from a seeded grammar, so that nothing large is
//! shipped and nobody's rights are touched. It has several kinds of paragraphs (stories, dialogues, facts about a fixed
//! small world, questions about them, sums, ledgers, recipes, weather reports), and so structure at several ranges: what a
//! story's hero is called stays the same, facts repeat, and sums come out right.

mod grammar;
mod tokens;

pub use grammar::corpus;
pub use tokens::Tokenizer;
