//! Which containers of a service stay, which are made and which go, when their number is chosen.
//!
//! As in Compose the first to go are those that would be replaced anyway, then those with the highest numbers; new ones
//! are counted on from the highest number that is there.
//!
//! Invariant: pure; knows containers by their numbers alone.

use super::step::Reason;

/// A replica: its number, and why it is made or updated; `None` is one that is there and fits.
pub(super) type Replica = (u32, Option<Reason>);

/// Returns the replicas that there should be, by number. `there` are those that are, with why each would be replaced.
pub(super) fn choose(mut there: Vec<Replica>, wished: u32) -> Vec<Replica> {
    let wished = usize::try_from(wished).unwrap_or(usize::MAX);
    let highest = there.iter().map(|(number, _)| *number).max().unwrap_or(0);
    there.sort_by_key(|(number, drift)| (drift.as_ref().is_some_and(Reason::replaces), *number));
    there.truncate(wished);
    let missing = wished - there.len();
    let next = (1..).map(|at| highest.saturating_add(at));
    there.extend(next.take(missing).map(|number| (number, Some(Reason::Missing))));
    there.sort_by_key(|(number, _)| *number);
    there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obsolete_ones_go_first_then_the_highest_and_new_ones_count_on() {
        let fits = |number| (number, None);
        let old = |number| (number, Some(Reason::ConfigChanged));
        let new = |number| (number, Some(Reason::Missing));
        for (there, wished, expected) in [
            (vec![], 0, vec![]),
            (vec![], 2, vec![new(1), new(2)]),
            (vec![fits(1)], 1, vec![fits(1)]),
            (vec![fits(3), fits(1)], 3, vec![fits(1), fits(3), new(4)]),
            (vec![fits(1), fits(2), fits(3)], 2, vec![fits(1), fits(2)]),
            (vec![old(1), fits(2), fits(3)], 2, vec![fits(2), fits(3)]),
            (vec![old(1), old(2), fits(3)], 2, vec![old(1), fits(3)]),
            (vec![old(1), fits(2)], 3, vec![old(1), fits(2), new(3)]),
            (vec![fits(1), old(2)], 0, vec![]),
        ] {
            assert_eq!(choose(there.clone(), wished), expected, "{there:?} to {wished}");
        }
    }
}
