//! Names on offer that people take for one another: the same but for case, or
//! of letters that look the same. Nothing is answered for a look-alike, names
//! are compared byte by byte; these are only shown as what they are.

use std::collections::{BTreeMap, BTreeSet};

use unicode_security::skeleton;

/// Look-alikes that are told of one name.
const TOLD_MAX: usize = 8;

/// For each name that looks like others, those others.
pub(crate) type LookAlikes = BTreeMap<String, Vec<String>>;

/// Finds them. Of a name in ASCII and one that is not only the second is
/// marked: that is how the first one is written.
pub(crate) fn look_alikes(names: &BTreeSet<&str>) -> LookAlikes {
    let mut shapes: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for name in names {
        for shape in shapes_of(name) {
            shapes.entry(shape).or_default().insert(name);
        }
    }
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for alike in shapes.values().filter(|alike| alike.len() > 1) {
        for name in alike {
            let is_honest = |other: &str| name.is_ascii() && !other.is_ascii();
            let others = alike.iter().filter(|other| *other != name);
            let others = others.filter(|other| !is_honest(other)).take(TOLD_MAX);
            let others: Vec<_> = others.collect();
            if !others.is_empty() {
                found.entry(name).or_default().extend(others);
            }
        }
    }
    let told = |others: BTreeSet<&str>| {
        let others = others.into_iter().take(TOLD_MAX);
        others.map(str::to_owned).collect()
    };
    let found = found.into_iter();
    found
        .map(|(name, others)| (name.to_owned(), told(others)))
        .collect()
}

/// Whether two names look alike.
pub(crate) fn is_alike(one: &str, other: &str) -> bool {
    let others = shapes_of(other);
    shapes_of(one).iter().any(|shape| others.contains(shape))
}

/// What a name looks like, case set aside. Twice, since a letter may look like
/// another one before its case is changed (`I` and `l`) or after it (`I` and `i`).
fn shapes_of(name: &str) -> [String; 2] {
    let of = |text: &str| skeleton(text).collect::<String>();
    let before = of(name).to_lowercase();
    [of(&before), of(&name.to_lowercase())]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a name in ASCII may be taken for; none of it is that name.
    const CORPUS: [&str; 9] = [
        "LLaMA-mini",
        "llama-MINI",
        "I1ama-mini",
        "llarna-mini",
        "ll\u{430}ma-mini",
        "ⅼlama-mini",
        "llama-\u{1d5c6}ini",
        "l\u{ff4c}ama-mini",
        "llama\u{2010}mini",
    ];

    fn found(names: &[&str]) -> LookAlikes {
        look_alikes(&names.iter().copied().collect())
    }

    #[test]
    fn case_and_letters_that_look_the_same_are_noticed() {
        for name in CORPUS {
            let found = found(&["llama-mini", name, "other"]);
            assert_eq!(found[name], ["llama-mini"], "{name:?}");
            let marked = found.contains_key("llama-mini");
            assert_eq!(marked, name.is_ascii(), "{name:?}");
            assert!(is_alike(name, "llama-mini") && !is_alike(name, "other"));
        }
    }

    #[test]
    fn names_that_differ_are_not() {
        let names = [
            "llama-3.1-8b",
            "llama-3.1-80b",
            "llama-3.2-8b",
            "qwen3-8b",
            "модель",
            "modèle",
            "型",
        ];
        assert_eq!(found(&names), LookAlikes::new());
    }

    #[test]
    fn of_many_only_a_few_are_told() {
        let names: Vec<String> = (0..40)
            .map(|at| {
                let upper = |(n, letter): (usize, char)| match at >> n & 1 {
                    1 => letter.to_ascii_uppercase(),
                    _ => letter,
                };
                "abcdef".chars().enumerate().map(upper).collect()
            })
            .collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let found = found(&names);
        assert_eq!(found.len(), 40);
        assert!(found.values().all(|others| others.len() == TOLD_MAX));
    }
}
