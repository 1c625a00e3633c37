//! Whether a stop signal reaches a container's first process, and what to do when it does not.
//!
//! The kernel discards a signal to the first process of a pid namespace unless it has a handler for it or has blocked
//! it (signal(7), pid_namespaces(7)). Waiting for a discarded signal costs the whole grace period, so:
//! - a process that cannot take it, because it is alone and nobody could pass the signal on, is killed after a few looks,
//!   some 30 ms. It gets more time when it was not alone before: a script may be between two commands, and a program that
//!   it has just run may be about to set its handler;
//! - one that may take it later, such as an entrypoint's script that has yet to run the program, is sent it again as
//!   soon as it can. The kernel has no event for that: it is looked at now and then;
//! - one that has it blocked keeps it for later, to be taken by sigwait(2), a signalfd, or a handler; but a shell blocks
//!   all signals while it makes a child, and discards it right after. A handler that is there when we look again has
//!   had the signal, unless another program runs by then.
//!
//! Invariant: pure.

/// What a first process does with the signal now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// It has a handler.
    Handles,
    /// It has no handler and has blocked it.
    Blocks,
    /// Neither: the kernel discards it.
    Discards,
}

/// A look at a first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) takes: Takes,
    /// The signal was sent and waits to be taken.
    pub(super) pending: bool,
    /// There is no other process in the container.
    pub(super) alone: bool,
    /// Device and inode of the program that it runs.
    pub(super) program: (u64, u64),
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It has been reached: only the grace period counts.
    Wait,
    /// Look again in a moment.
    Look,
    /// Send the signal again; it is reached.
    Send,
    /// Send the signal again, and look again in a moment.
    SendAndLook,
    /// It cannot be reached.
    Kill,
}

/// A stop under way. Begins with the signal being sent just after the first look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asking {
    /// The program that had the signal blocked when it was sent; `None` when it was discarded.
    kept_by: Option<(u64, u64)>,
    /// How many looks in a row found it alone and without a handler.
    alone: u8,
    /// So many such looks say that it will never have one.
    patience: u8,
}

/// For a process that has been alone from the first look on.
const SHORT_PATIENCE: u8 = 3;
/// For one that was not.
const LONG_PATIENCE: u8 = 30;

impl Asking {
    /// Begins with the look that was taken before the signal was sent.
    pub(super) fn begin(look: &Look) -> (Self, Then) {
        let kept_by = (look.takes == Takes::Blocks).then_some(look.program);
        let then = match look.takes {
            Takes::Handles => Then::Wait,
            Takes::Blocks | Takes::Discards => Then::Look,
        };
        let patience = if look.alone { SHORT_PATIENCE } else { LONG_PATIENCE };
        (Self { kept_by, alone: 0, patience }, then)
    }

    /// Goes on with another look.
    pub(super) fn again(&mut self, look: &Look) -> Then {
        if !look.alone {
            self.patience = LONG_PATIENCE;
        }
        self.alone = if look.alone && look.takes == Takes::Discards { self.alone + 1 } else { 0 };
        match (look.takes, self.kept_by) {
            (Takes::Discards, _) => {
                self.kept_by = None;
                if self.alone >= self.patience { Then::Kill } else { Then::Look }
            }
            (Takes::Blocks, Some(_)) => Then::Look,
            (Takes::Blocks, None) => {
                self.kept_by = Some(look.program);
                Then::SendAndLook
            }
            (Takes::Handles, None) => Then::Send,
            (Takes::Handles, Some(_)) if look.pending => Then::Wait,
            (Takes::Handles, Some(program)) if program == look.program => Then::Wait,
            (Takes::Handles, Some(_)) => Then::Send,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: (u64, u64) = (1, 1);
    const PROGRAM: (u64, u64) = (1, 2);

    fn look(takes: Takes, program: (u64, u64)) -> Look {
        Look { takes, pending: false, alone: false, program }
    }

    fn play(first: Look, rest: &[Look]) -> Vec<Then> {
        let (mut asking, then) = Asking::begin(&first);
        std::iter::once(then).chain(rest.iter().map(|l| asking.again(l))).collect()
    }

    #[test]
    fn a_process_with_a_handler_is_asked_once() {
        assert_eq!(play(look(Takes::Handles, PROGRAM), &[]), [Then::Wait]);
    }

    #[test]
    fn one_that_is_alone_and_has_no_handler_is_killed() {
        let alone = Look { alone: true, ..look(Takes::Discards, PROGRAM) };
        assert_eq!(play(alone, &[alone; 3]), [Then::Look, Then::Look, Then::Look, Then::Kill]);
        let between = [look(Takes::Discards, SHELL), alone, alone, alone, look(Takes::Handles, PROGRAM)];
        assert_eq!(play(alone, &between).last(), Some(&Then::Send));
        let patient = play(look(Takes::Discards, SHELL), &[alone; LONG_PATIENCE as usize]);
        assert_eq!(patient.iter().filter(|t| **t == Then::Kill).count(), 1);
        assert_eq!(patient.last(), Some(&Then::Kill));
        let mut soon = vec![alone; 3];
        soon.push(look(Takes::Handles, PROGRAM));
        assert_eq!(play(look(Takes::Discards, SHELL), &soon).last(), Some(&Then::Send));
    }

    #[test]
    fn a_script_s_program_is_asked_when_it_has_its_handler() {
        let script = look(Takes::Discards, SHELL);
        let program = look(Takes::Handles, PROGRAM);
        assert_eq!(play(script, &[script, program]), [Then::Look, Then::Look, Then::Send]);
    }

    #[test]
    fn a_shell_that_blocks_for_a_moment_has_not_taken_it() {
        let blocked = look(Takes::Blocks, SHELL);
        let program = look(Takes::Handles, PROGRAM);
        assert_eq!(play(blocked, &[program]), [Then::Look, Then::Send]);
        assert_eq!(play(blocked, &[look(Takes::Discards, SHELL), program]), [Then::Look, Then::Look, Then::Send]);
        assert_eq!(play(blocked, &[Look { pending: true, ..program }]), [Then::Look, Then::Wait]);
    }

    #[test]
    fn one_that_waits_for_blocked_signals_is_asked_once() {
        let waiter = look(Takes::Blocks, PROGRAM);
        assert_eq!(play(waiter, &[waiter, waiter]), [Then::Look; 3]);
        assert_eq!(play(waiter, &[look(Takes::Handles, PROGRAM)]), [Then::Look, Then::Wait]);
        let late = play(look(Takes::Discards, SHELL), &[waiter, waiter]);
        assert_eq!(late, [Then::Look, Then::SendAndLook, Then::Look]);
    }
}
