//! Which device nodes the processes of a cgroup may use: rules, and the eBPF program that enforces them.
//!
//! The program belongs to the cgroup and not to a process, so nothing inside can shed it; a node that a container
//! makes with `mknod`, which `CAP_MKNOD` allows it, is of no use unless a rule names the device.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::bpf::{self, Instruction};

/// The kind of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A block device.
    Block,
    /// A character device.
    Char,
}

/// What may be done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// Make a node for it.
    pub const MKNOD: Self = Self(1);
    /// Open it for reading.
    pub const READ: Self = Self(2);
    /// Open it for writing.
    pub const WRITE: Self = Self(4);
    /// All three, `rwm` in Docker's words.
    pub const ALL: Self = Self(7);

    /// Returns what the letters `r`, `w` and `m` stand for; `None` for any other letter, a repetition, or no letter.
    #[must_use]
    pub fn parse(letters: &str) -> Option<Self> {
        let mut access = 0;
        for letter in letters.chars() {
            let bit = match letter {
                'm' => Self::MKNOD.0,
                'r' => Self::READ.0,
                'w' => Self::WRITE.0,
                _ => return None,
            };
            if access & bit != 0 {
                return None;
            }
            access |= bit;
        }
        (access != 0).then_some(Self(access))
    }

    const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Allows a kind of access to some devices. What no rule allows is refused with `EPERM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Which kind; `None` is both.
    pub kind: Option<Kind>,
    /// Which major number; `None` is any.
    pub major: Option<u32>,
    /// Which minor number; `None` is any.
    pub minor: Option<u32>,
    /// What is allowed.
    pub access: Access,
}

impl Rule {
    /// Allows everything: the one rule of a privileged container.
    pub const EVERYTHING: Self = Self { kind: None, major: None, minor: None, access: Access::ALL };

    /// Returns whether the rule allows an access, as the program decides it.
    #[must_use]
    pub fn allows(&self, kind: Kind, major: u32, minor: u32, access: Access) -> bool {
        self.kind.is_none_or(|k| k == kind)
            && self.major.is_none_or(|m| m == major)
            && self.minor.is_none_or(|m| m == minor)
            && self.access.contains(access)
    }
}

const fn char(major: u32, minor: Option<u32>) -> Rule {
    Rule { kind: Some(Kind::Char), major: Some(major), minor, access: Access::ALL }
}

/// Docker's rules for a container without devices of its own, with those that runc adds to every container.
///
/// Docker also names 10:229 (fuse), to deny it; that is the default here, since a rule can only allow.
pub const DEFAULT: &[Rule] = &[
    char(1, Some(3)), // null
    char(1, Some(5)), // zero
    char(1, Some(7)), // full
    char(1, Some(8)), // random
    char(1, Some(9)), // urandom
    char(5, Some(0)), // tty
    char(5, Some(1)), // console
    char(5, Some(2)), // ptmx
    char(136, None),  // pts/*
    Rule { kind: None, major: None, minor: None, access: Access::MKNOD },
];

/// Programs that are loaded, the last one first: the kernel takes a good part of a millisecond to check one, and most
/// cgroups get the same.
#[derive(Debug, Default)]
pub struct Programs(Vec<(Vec<Rule>, OwnedFd)>);

/// How many programs are kept.
const PROGRAMS: usize = 4;

impl Programs {
    /// Confines the processes of a cgroup2 directory, and of all below it, to what some rule allows.
    ///
    /// # Errors
    /// When the kernel refuses the program or will not attach it; see [`bpf::attach_device_program`].
    pub fn confine(&mut self, cgroup: BorrowedFd<'_>, rules: &[Rule]) -> io::Result<()> {
        bpf::attach_device_program(cgroup, self.loaded(rules)?)
    }

    /// Loads ahead what most containers are confined by. What cannot be loaded is an error of the first of them.
    pub fn warm_up(&mut self) {
        let _ = self.loaded(DEFAULT);
    }

    fn loaded(&mut self, rules: &[Rule]) -> io::Result<BorrowedFd<'_>> {
        let at = match self.0.iter().position(|(of, _)| of == rules) {
            Some(at) => at,
            None => {
                let program = bpf::load_device_program(&program(rules))?;
                self.0.truncate(PROGRAMS - 1);
                self.0.insert(0, (rules.to_vec(), program));
                0
            }
        };
        Ok(self.0[at].1.as_fd())
    }
}

/// Registers: the answer, the context, and what is loaded from it.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// Returns the program: for each rule, the tests that lead past it, and an answer of 1; at the end an answer of 0.
///
/// The context is `struct bpf_cgroup_dev_ctx` (`linux/bpf.h`): `access << 16 | kind`, major, minor, 32 bits each.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    let op =
        |code, dst: u8, src: u8, offset, immediate| Instruction { code, registers: src << 4 | dst, offset, immediate };
    let load = |dst, offset| op(0x61, dst, CONTEXT, offset, 0);
    let copy = |dst, src| op(0xbc, dst, src, 0, 0);
    let and = |dst, value| op(0x54, dst, 0, 0, value);
    let answer = |value| [op(0xb7, ANSWER, 0, 0, value), op(0x95, 0, 0, 0, 0)];

    let mut code = vec![load(KIND, 0), copy(ACCESS, KIND), and(KIND, 0xffff), op(0x74, ACCESS, 0, 0, 16)];
    code.extend([load(MAJOR, 4), load(MINOR, 8)]);
    for rule in rules {
        // Each test is a comparison of 32 bits that jumps past the rule when the values differ.
        let mut tests: Vec<(Vec<Instruction>, u8, u32)> = Vec::new();
        if let Some(kind) = rule.kind {
            tests.push((vec![], KIND, if kind == Kind::Block { 1 } else { 2 }));
        }
        if rule.access != Access::ALL {
            let beyond = i32::from(Access::ALL.0 & !rule.access.0);
            tests.push((vec![copy(SCRATCH, ACCESS), and(SCRATCH, beyond)], SCRATCH, 0));
        }
        tests.extend(rule.major.map(|major| (vec![], MAJOR, major)));
        tests.extend(rule.minor.map(|minor| (vec![], MINOR, minor)));
        // How far it is to the next rule from behind a test, the answer of two instructions included.
        let length = |before: &Vec<Instruction>| i16::try_from(before.len() + 1).expect("a test is 1 or 3 long");
        let mut left = tests.iter().map(|(before, ..)| length(before)).sum::<i16>() + 2;
        let everything = tests.is_empty();
        for (before, register, value) in tests {
            left -= length(&before);
            code.extend(before);
            code.push(op(0x56, register, 0, left, value.cast_signed()));
        }
        code.extend(answer(1));
        if everything {
            return code; // it allows everything, and the kernel refuses a program with instructions that nothing leads to
        }
    }
    code.extend(answer(0));
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cgroup::tests::{Scratch, shell_in};

    /// Runs the program as the kernel would.
    fn run(program: &[Instruction], kind: Kind, access: Access, major: u32, minor: u32) -> u64 {
        let kind = if kind == Kind::Block { 1 } else { 2 };
        let context = [u32::from(access.0) << 16 | kind, major, minor];
        let mut registers = [0_u64; 11];
        let mut at = 0_usize;
        loop {
            let i = program[at];
            at += 1;
            let (dst, src) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            let low = |value: u64| value & 0xffff_ffff;
            let immediate = u64::from(i.immediate.cast_unsigned());
            match i.code {
                0x61 => registers[dst] = u64::from(context[usize::try_from(i.offset).unwrap() / 4]),
                0xbc => registers[dst] = low(registers[src]),
                0x54 => registers[dst] = low(registers[dst]) & immediate,
                0x74 => registers[dst] = low(registers[dst]) >> immediate,
                0x56 if low(registers[dst]) != immediate => at += usize::try_from(i.offset).unwrap(),
                0x56 => {}
                0xb7 => registers[dst] = immediate,
                0x95 => return registers[0],
                code => panic!("code {code:#x}"),
            }
        }
    }

    #[test]
    fn the_program_decides_as_the_rules_do() {
        let odd = [
            Rule { kind: Some(Kind::Block), major: Some(8), minor: None, access: Access::READ },
            Rule { kind: None, major: None, minor: Some(u32::MAX), access: Access::parse("rw").unwrap() },
            Rule { kind: Some(Kind::Char), major: Some(0x8000_0000), minor: Some(1), access: Access::ALL },
        ];
        for rules in [DEFAULT, &odd, &[Rule::EVERYTHING], &[]] {
            let program = program(rules);
            for kind in [Kind::Block, Kind::Char] {
                for access in (1..8).map(Access) {
                    for major in [0, 1, 5, 8, 10, 136, 0x8000_0000, u32::MAX] {
                        for minor in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 229, u32::MAX] {
                            let want = rules.iter().any(|rule| rule.allows(kind, major, minor, access));
                            let got = run(&program, kind, access, major, minor);
                            assert_eq!(got, u64::from(want), "{kind:?} {major}:{minor} {access:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn access_is_written_in_letters() {
        assert_eq!(Access::parse("rwm"), Some(Access::ALL));
        assert_eq!(Access::parse("mr"), Some(Access(3)));
        for letters in ["", "x", "rr", "rwmx", "R"] {
            assert_eq!(Access::parse(letters), None, "{letters}");
        }
    }

    #[test]
    fn a_confined_process_opens_null_and_no_other_device() {
        let Some(scratch) = Scratch::new() else { return };
        let (free, confined) = (scratch.cgroup("free"), scratch.cgroup("confined"));
        Programs::default().confine(confined.dir(), DEFAULT).unwrap();
        let dir = tempfile::tempdir().unwrap();
        // 1:11 is the kernel's log, which is safe to open; 42 is set aside for demonstrations.
        let script = format!(
            "cd {} && mkdir $1 && cd $1 && for n in c:1:3 c:1:11 b:42:0; do \
             IFS=:; set -- $n; mknod $2:$3 $1 $2 $3 && ( exec 3<$2:$3 ) 2>&1 && echo opened; done",
            dir.path().display()
        );
        let said = |cgroup, name: &str| {
            let child = shell_in(cgroup, &format!("set -- {name}; {script}"));
            String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
        };
        let unconfined = said(&free, "free");
        assert!(unconfined.starts_with("opened\nopened\n"), "{unconfined}");
        assert!(!unconfined.contains("not permitted"), "{unconfined}");
        let lines = said(&confined, "confined");
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0], "opened");
        for (line, node) in [(lines[1], "1:11"), (lines[2], "42:0")] {
            assert!(line.contains(node) && line.ends_with("Operation not permitted"), "{line}");
        }
    }
}
