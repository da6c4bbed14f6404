//! What was most likely meant by a mistyped word: for messages about keys, names and words that are not known. Called by
//! `config` and `admin`.

/// The nearest of `names` to a mistyped `word`: at most a third of it changed. Of a longer list its first 1,000 names are
/// looked at: each message of a hostile file would cost a walk through all.
pub fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    /// A longer word is no slip of the fingers.
    const CHARS_MAX: usize = 64;
    const NAMES_MAX: usize = 1000;
    if word.chars().count() > CHARS_MAX {
        return None;
    }
    let near = |name: &'n str| {
        let allowed = (word.len().max(name.len()) / 3).max(1);
        let swapped = distance(word, name);
        (swapped <= allowed).then_some((swapped, name))
    };
    names.into_iter().take(NAMES_MAX).filter_map(near).min_by_key(|(steps, _)| *steps).map(|(_, name)| name)
}

/// Insertions, removals, changes and swaps of neighbours, in characters.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.chars().collect();
    let other: Vec<char> = other.chars().collect();
    // steps[i][j]: from the first i characters of one to the first j of the other.
    let mut steps: Vec<Vec<usize>> = (0..=one.len()).map(|i| (i..=i + other.len()).collect()).collect();
    for i in 1..=one.len() {
        for j in 1..=other.len() {
            let differ = usize::from(one[i - 1] != other[j - 1]);
            let mut least = (steps[i - 1][j] + 1).min(steps[i][j - 1] + 1).min(steps[i - 1][j - 1] + differ);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(steps[i - 2][j - 2] + 1);
            }
            steps[i][j] = least;
        }
    }
    steps[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_insertions_removals_changes_and_swaps() {
        for (one, other, steps) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("é", "e", 1),
            ("pager", "pagre", 1),
        ] {
            assert_eq!(distance(one, other), steps, "{one} {other}");
            assert_eq!(distance(other, one), steps, "{other} {one}");
        }
    }

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        assert_eq!(nearest("upstream", ["keys", "upstreams"]), Some("upstreams"));
        assert_eq!(nearest("colour", ["keys", "upstreams"]), None);
        // Beyond what a slip of the fingers explains, nothing is worked out.
        let long = "x".repeat(65);
        assert_eq!(nearest(&long, [&long[1..]]), None);
        assert!(nearest(&long[1..], [long.as_str()]).is_some());
        let others = || std::iter::repeat_n("keys", 999);
        assert_eq!(nearest("upstream", others().chain(["upstreams"])), Some("upstreams"));
        assert_eq!(nearest("upstream", others().chain(["keys", "upstreams"])), None);
    }
}
