//! From decisions by call number to a program of classic BPF: a binary tree over ranges of numbers, so that each call
//! takes a dozen instructions and not hundreds.
//!
//! The program is written from its end: all jumps lead forward, so every target is known when its jump is written,
//! and a target out of reach of an 8-bit offset gets a long jump (or, for a return, a copy) there and then.
//!
//! Only loads, comparisons with constants, AND with constants and returns are used: from such a program the kernel
//! can tell which calls are always allowed, and skips the filter for them (`seccomp_is_const_allow`).

use std::collections::HashMap;

use crate::sys::seccomp::Instruction;

/// A whole filter, ready for [`crate::sys::seccomp::load`].
pub type Program = Vec<Instruction>;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is made.
    Allow,
    /// It is not made, and fails with this error number.
    Errno(u16),
    /// The process is killed by `SIGSYS`.
    KillProcess,
    /// The thread is killed.
    KillThread,
    /// The thread gets `SIGSYS`.
    Trap,
    /// It is made, and logged.
    Log,
}

impl Action {
    /// Returns the filter's return value for it (`linux/seccomp.h`).
    #[must_use]
    pub const fn value(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Errno(errno) => 0x0005_0000 | errno as u32,
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Log => 0x7ffc_0000,
        }
    }
}

/// How much of an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// The lower 32 bits: right for what the kernel takes as `int`, whose upper half a caller may fill with anything.
    Int,
    /// All 64 bits.
    Long,
}

/// A comparison of an argument (unsigned) with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Equal after the argument is masked with this.
    Masked(u64),
}

/// A condition on one argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Check {
    /// Which argument, 0 to 5.
    pub arg: u8,
    /// How much of it.
    pub width: Width,
    /// Which comparison.
    pub op: Op,
    /// With what; the lower half counts for [`Width::Int`].
    pub value: u64,
}

/// What is decided for one call number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The same for all arguments.
    Always(Action),
    /// It depends on the arguments.
    When {
        /// Alternatives; all checks of one must hold.
        any: Vec<Vec<Check>>,
        /// What happens if an alternative holds.
        then: Action,
        /// What happens if none does.
        otherwise: Action,
    },
}

/// The decisions for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arch {
    /// The kernel's `AUDIT_ARCH_*` value.
    pub audit: u32,
    /// First number and decision of each range, ascending; the first is 0, and each range ends where the next begins.
    pub ranges: Vec<(u32, Decision)>,
}

/// Offsets in `struct seccomp_data` (`linux/seccomp.h`).
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// Operation codes (`linux/bpf_common.h`).
const LD_ABS: u16 = 0x20;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const AND: u16 = 0x54;
const RET: u16 = 0x06;

/// Compiles a filter. Calls of an architecture that is not listed kill the process.
#[must_use]
pub fn compile(arches: &[Arch]) -> Program {
    let mut writer = Writer::default();
    let mut next = writer.ret(Action::KillProcess);
    for arch in arches.iter().rev() {
        let tree = writer.tree(&arch.ranges);
        let entry = writer.load(NR, tree);
        next = writer.compare(JEQ, arch.audit, entry, next);
    }
    writer.load(ARCH, next);
    writer.code.reverse();
    writer.code
}

/// A program in the making, last instruction first. A place is an index in it.
#[derive(Default)]
struct Writer {
    code: Vec<Instruction>,
    /// The nearest return of each value, and where each decision that looks at arguments is made.
    returns: HashMap<Action, usize>,
    conditions: HashMap<Decision, usize>,
}

impl Writer {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> usize {
        self.code.push(Instruction { code, jt, jf, k });
        self.code.len() - 1
    }

    /// Returns the place of a return, written if there is none.
    fn ret(&mut self, action: Action) -> usize {
        if let Some(place) = self.returns.get(&action) {
            return *place;
        }
        let place = self.push(RET, 0, 0, action.value());
        self.returns.insert(action, place);
        place
    }

    /// Returns how many instructions the next one would have to skip to get to `place`.
    fn distance(&self, place: usize) -> usize {
        self.code.len() - place - 1
    }

    /// Returns a place with the effect of `place` that the next instruction can jump to, even if `slack` more
    /// instructions are written before it.
    fn reach(&mut self, place: usize, slack: usize) -> usize {
        if self.distance(place) + slack <= usize::from(u8::MAX) {
            return place;
        }
        let target = self.code[place];
        if target.code == RET {
            let copy = self.push(RET, 0, 0, target.k);
            for known in self.returns.values_mut().filter(|known| **known == place) {
                *known = copy;
            }
            copy
        } else {
            self.jump(place)
        }
    }

    fn jump(&mut self, place: usize) -> usize {
        let skip = u32::try_from(self.distance(place)).expect("a program is shorter than 4 Gi instructions");
        self.push(JA, 0, 0, skip)
    }

    /// Writes a comparison of the accumulator that leads to `yes` or `no`.
    fn compare(&mut self, code: u16, k: u32, yes: usize, no: usize) -> usize {
        if yes == no {
            return yes;
        }
        let yes = self.reach(yes, 1);
        let no = self.reach(no, 0);
        let offset = |place| u8::try_from(self.distance(place)).expect("made reachable above");
        let (jt, jf) = (offset(yes), offset(no));
        self.push(code, jt, jf, k)
    }

    /// Writes a load that goes on at `next`.
    fn load(&mut self, offset: u32, next: usize) -> usize {
        self.before(LD_ABS, offset, next)
    }

    /// Writes an instruction without a jump that goes on at `next`.
    fn before(&mut self, code: u16, k: u32, next: usize) -> usize {
        if self.distance(next) > 0 {
            self.jump(next);
        }
        self.push(code, 0, 0, k)
    }

    fn decision(&mut self, decision: &Decision) -> usize {
        match decision {
            Decision::Always(action) => self.ret(*action),
            Decision::When { any, then, otherwise } => {
                if let Some(place) = self.conditions.get(decision) {
                    return *place;
                }
                let (yes, no) = (self.ret(*then), self.ret(*otherwise));
                let place = self.condition(any, yes, no);
                self.conditions.insert(decision.clone(), place);
                place
            }
        }
    }

    /// Writes alternatives; the accumulator is free on entry.
    fn condition(&mut self, any: &[Vec<Check>], yes: usize, no: usize) -> usize {
        // When every alternative looks at the same 32 bits, they are loaded once.
        if let Some(arg) = same_int(any) {
            let chain = any.iter().flatten().rev().fold(no, |no, check| self.word(check.op, low(check.value), yes, no));
            return if chain == no { no } else { self.load(ARGS + 8 * arg, chain) };
        }
        any.iter().rev().fold(no, |no, all| all.iter().rev().fold(yes, |yes, check| self.check(*check, yes, no)))
    }

    /// Writes a comparison of a loaded word; one that masks leaves the accumulator changed.
    fn word(&mut self, op: Op, value: u32, yes: usize, no: usize) -> usize {
        match op {
            Op::Eq => self.compare(JEQ, value, yes, no),
            Op::Ne => self.compare(JEQ, value, no, yes),
            Op::Gt => self.compare(JGT, value, yes, no),
            Op::Le => self.compare(JGT, value, no, yes),
            Op::Ge => self.compare(JGE, value, yes, no),
            Op::Lt => self.compare(JGE, value, no, yes),
            Op::Masked(mask) => {
                let test = self.compare(JEQ, value, yes, no);
                self.before(AND, low(mask), test)
            }
        }
    }

    fn check(&mut self, check: Check, yes: usize, no: usize) -> usize {
        let lower = ARGS + 8 * u32::from(check.arg);
        let upper = lower + 4; // Every architecture that we run on is little-endian.
        let (value_low, value_high) = (low(check.value), high(check.value));
        if check.width == Width::Int {
            let test = self.word(check.op, value_low, yes, no);
            return self.load(lower, test);
        }
        match check.op {
            Op::Eq | Op::Masked(_) => {
                let tests_upper = !matches!(check.op, Op::Masked(mask) if high(mask) == 0 && value_high == 0);
                let test = self.word(check.op, value_low, yes, no);
                let entry = self.load(lower, test);
                if !tests_upper {
                    return entry;
                }
                let op = if let Op::Masked(mask) = check.op { Op::Masked(u64::from(high(mask))) } else { Op::Eq };
                let test = self.word(op, value_high, entry, no);
                self.load(upper, test)
            }
            Op::Ne => self.check(Check { op: Op::Eq, ..check }, no, yes),
            Op::Lt => self.check(Check { op: Op::Ge, ..check }, no, yes),
            Op::Le => self.check(Check { op: Op::Gt, ..check }, no, yes),
            Op::Gt | Op::Ge => {
                let test = self.word(check.op, value_low, yes, no);
                let entry = self.load(lower, test);
                let equal = self.compare(JEQ, value_high, entry, no);
                let greater = self.compare(JGT, value_high, yes, equal);
                self.load(upper, greater)
            }
        }
    }

    /// Writes the tree over the ranges; the accumulator holds the number on entry.
    fn tree(&mut self, ranges: &[(u32, Decision)]) -> usize {
        let chunks = chunks(ranges);
        self.subtree(ranges, &chunks)
    }

    fn subtree(&mut self, ranges: &[(u32, Decision)], chunks: &[Chunk]) -> usize {
        if let [chunk] = chunks {
            // `len` ranges; those that are not the base are one number wide each.
            let base = &ranges[chunk.base].1;
            let mut next = self.decision(base);
            for (number, decision) in ranges[chunk.first..chunk.end].iter().rev().filter(|(_, d)| d != base) {
                let hit = self.decision(decision);
                next = self.compare(JEQ, *number, hit, next);
            }
            return next;
        }
        let (left, right) = chunks.split_at(chunks.len() / 2);
        let high = self.subtree(ranges, right);
        let low = self.subtree(ranges, left);
        self.compare(JGE, ranges[right[0].first].0, high, low)
    }
}

/// A leaf of the tree: neighbouring ranges of which all but those decided as `base` are single numbers.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    first: usize,
    end: usize,
    base: usize,
}

/// More single numbers than this in one leaf would make it a list again.
const SINGLES: usize = 3;

/// Cuts the ranges into leaves so that the program is short: a leaf costs a comparison, each single number in it too.
fn chunks(ranges: &[(u32, Decision)]) -> Vec<Chunk> {
    let is_single = |i: usize| ranges.get(i + 1).is_some_and(|next| next.0 - ranges[i].0 == 1);
    // best[i]: the cost of all from range i on, and the leaf that begins there.
    let mut best: Vec<(usize, Option<Chunk>)> = vec![(usize::MAX, None); ranges.len()];
    best.push((0, None));
    for first in (0..ranges.len()).rev() {
        // The base is the leaf's first range or, if that is a single number, its second.
        for base in first..(first + 2).min(ranges.len()) {
            let mut singles = 0;
            for end in first + 1..=ranges.len() {
                let last = end - 1;
                if ranges[last].1 != ranges[base].1 {
                    singles += 1;
                    if singles > SINGLES || !is_single(last) {
                        break;
                    }
                }
                if end > base && best[end].0 + singles + 1 < best[first].0 {
                    best[first] = (best[end].0 + singles + 1, Some(Chunk { first, end, base }));
                }
            }
        }
    }
    let mut chunks = Vec::new();
    let mut at = 0;
    while let Some(chunk) = best[at].1 {
        chunks.push(chunk);
        at = chunk.end;
    }
    chunks
}

/// Returns the argument, if all alternatives are one check each of the same 32 bits and none changes them.
fn same_int(any: &[Vec<Check>]) -> Option<u32> {
    let arg = any.first()?.first()?.arg;
    let fits = |all: &Vec<Check>| matches!(all[..], [c] if c.arg == arg && c.width == Width::Int && !matches!(c.op, Op::Masked(_)));
    any.iter().all(fits).then_some(u32::from(arg))
}

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).expect("masked")
}

fn high(value: u64) -> u32 {
    u32::try_from(value >> 32).expect("shifted")
}
