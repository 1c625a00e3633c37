//! The init of a container that asks for one: `init PROGRAM [ARGUMENT...]`.
//!
//! A program of its own, a few kB without any library, so that nothing of the engine's binary is ever seen inside a
//! container. It runs PROGRAM as its child, hands on every signal it gets, reaps every orphan, and ends as the child
//! does: with its exit code, or with 128 and the number of the signal that killed it. It answers 127 when there is no
//! such program, 126 when it cannot be run, and 125 when it is itself used or served badly.
//!
//! It reads nothing but its arguments and `PATH`, allocates nothing and cannot panic: there is no slice that is
//! indexed and no arithmetic that is checked. `build.rs` compiles this file; the crate does not see it.

#![no_std]
#![no_main]
// Keeps the compiler from turning loops into calls of `memcpy`, which nobody would provide.
#![no_builtins]

use core::arch::{asm, global_asm};
use core::panic::PanicInfo;

#[cfg(target_arch = "x86_64")]
mod nr {
    pub const WRITE: usize = 1;
    pub const SIGACTION: usize = 13;
    pub const SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const GETPID: usize = 39;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const SETPGID: usize = 109;
    pub const SIGTIMEDWAIT: usize = 128;
    pub const PRCTL: usize = 157;
    pub const EXIT_GROUP: usize = 231;
    pub const CLOSE_RANGE: usize = 436;
}

#[cfg(target_arch = "aarch64")]
mod nr {
    pub const IOCTL: usize = 29;
    pub const WRITE: usize = 64;
    pub const EXIT_GROUP: usize = 94;
    pub const KILL: usize = 129;
    pub const SIGACTION: usize = 134;
    pub const SIGPROCMASK: usize = 135;
    pub const SIGTIMEDWAIT: usize = 137;
    pub const SETPGID: usize = 154;
    pub const PRCTL: usize = 167;
    pub const GETPID: usize = 172;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const CLOSE_RANGE: usize = 436;
}

const ENOENT: isize = -2;
const EINTR: isize = -4;
const E2BIG: isize = -7;
const ENOEXEC: isize = -8;
const EACCES: isize = -13;
const ENOTDIR: isize = -20;
const EISDIR: isize = -21;
const ENAMETOOLONG: isize = -36;
const ELOOP: isize = -40;

const SIGCHLD: usize = 17;
const SIGTTIN: usize = 21;
const SIGTTOU: usize = 22;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
const SIG_SETMASK: usize = 2;
const WNOHANG: usize = 1;
const TIOCSPGRP: usize = 0x5410;
const PR_SET_CHILD_SUBREAPER: usize = 36;

/// Signals that are never blocked: those a fault of ours raises, and those of a terminal, which are ignored instead
/// (ILL TRAP ABRT BUS FPE SEGV TTIN TTOU SYS).
const UNBLOCKED: u64 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 20 | 1 << 21 | 1 << 30;
const SIGNALS: u64 = !UNBLOCKED;

/// Where a program is looked for when there is no `PATH`; what the engine sets by default.
const PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\0";

/// The kernel's `struct sigaction`, the same on both architectures (`asm-generic/signal.h`, `asm/signal.h`).
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

const EMPTY: Action = Action { handler: SIG_DFL, flags: 0, restorer: 0, mask: 0 };

// The kernel enters with argc, argv, envp on the stack, and the stack is all that `start` wants to know.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start: xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym start,
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start: mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {start}",
    "brk 1",
    start = sym start,
);

/// Makes a system call; a result from -4095 to -1 is an error number, negated.
///
/// # Safety
/// The caller keeps to what the call's man page demands of the arguments; pointers must be valid for what the kernel
/// does with them.
#[cfg(target_arch = "x86_64")]
unsafe fn call(nr: usize, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    let result;
    // SAFETY: this is the kernel's calling convention (syscall(2)): number in rax, arguments in rdi, rsi, rdx, r10,
    // r8, result in rax, rcx and r11 lost. The caller answers for the effect.
    unsafe {
        asm!("syscall", inlateout("rax") nr => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            in("r8") e, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Makes a system call; a result from -4095 to -1 is an error number, negated.
///
/// # Safety
/// The caller keeps to what the call's man page demands of the arguments; pointers must be valid for what the kernel
/// does with them.
#[cfg(target_arch = "aarch64")]
unsafe fn call(nr: usize, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    let result;
    // SAFETY: this is the kernel's calling convention (syscall(2)): number in x8, arguments in x0 to x4, result in
    // x0, nothing else changed. The caller answers for the effect.
    unsafe {
        asm!("svc 0", in("x8") nr, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            options(nostack));
    }
    result
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: exit_group takes a number and does not return.
        unsafe { call(nr::EXIT_GROUP, code, 0, 0, 0, 0) };
    }
}

/// Returns the length of a C string.
///
/// # Safety
/// `text` points to bytes that end in a zero.
unsafe fn length(text: *const u8) -> usize {
    let mut n = 0;
    // SAFETY: every byte up to and including the zero is there, as the caller promises.
    while unsafe { *text.add(n) } != 0 {
        n += 1;
    }
    n
}

/// Writes to standard error; what cannot be written is lost, there is nobody else to tell.
fn say(text: &[u8]) {
    // SAFETY: the pointer and the length are those of a slice, which the kernel only reads.
    unsafe { call(nr::WRITE, 2, text.as_ptr() as usize, text.len(), 0, 0) };
}

/// Ends with the exit code and the message for a program that could not be run.
///
/// # Safety
/// `program` points to a C string.
unsafe fn refuse(program: *const u8, error: isize) -> ! {
    say(b"init: cannot run `");
    // SAFETY: a C string is as long as `length` says, and the kernel only reads it.
    unsafe { call(nr::WRITE, 2, program as usize, length(program), 0, 0) };
    say(match error {
        ENOENT => b"`: no such file or directory\n",
        ENOTDIR => b"`: not a directory\n",
        EACCES => b"`: permission denied\n",
        EISDIR => b"`: is a directory\n",
        ENOEXEC => b"`: not in a format that the kernel can run\n",
        E2BIG => b"`: the arguments and the environment are too long\n",
        ELOOP => b"`: too many symbolic links\n",
        ENAMETOOLONG => b"`: the name is too long\n",
        _ => b"`: the kernel refused\n",
    });
    exit(if matches!(error, ENOENT | ENOTDIR) { 127 } else { 126 })
}

/// The name that is tried in a directory of `PATH`.
static mut NAME: [u8; 4096] = [0; 4096];

/// Runs the program in place of this process; returns an error number, negated, if it cannot.
///
/// A name with a slash is run as it is, another is looked for along `PATH` as execvp(3) does, except that a file in
/// no known format is not given to a shell.
///
/// # Safety
/// `argv` and `envp` are arrays of C strings that end in a null pointer; `argv` has at least one string. No other
/// thread is running.
unsafe fn run(argv: *const *const u8, envp: *const *const u8) -> isize {
    // SAFETY: all pointers are followed only as far as the caller promises: strings up to their zero and arrays up to
    // their null. `NAME` is written below its length only, and there is one thread. execve reads its arguments and
    // either replaces this process or changes nothing (execve(2)).
    unsafe {
        let execute = |path: *const u8| call(nr::EXECVE, path as usize, argv as usize, envp as usize, 0, 0);
        let program = *argv;
        let size = length(program);
        if size == 0 {
            return ENOENT;
        }
        let mut at = 0;
        while at < size {
            if *program.add(at) == b'/' {
                return execute(program);
            }
            at += 1;
        }

        let name = (&raw mut NAME).cast::<u8>();
        let mut path = path(envp);
        let mut result = ENOENT;
        loop {
            let mut end = 0;
            while !matches!(*path.add(end), 0 | b':') {
                end += 1;
            }
            let mut error = ENAMETOOLONG;
            if end + size + 2 <= 4096 {
                let mut to = 0;
                while to < end {
                    *name.add(to) = *path.add(to);
                    to += 1;
                }
                // An empty directory is the current one.
                if end > 0 {
                    *name.add(to) = b'/';
                    to += 1;
                }
                let mut from = 0;
                // The zero at the end is copied too.
                while from <= size {
                    *name.add(to) = *program.add(from);
                    (to, from) = (to + 1, from + 1);
                }
                error = execute(name);
            }
            match error {
                ENOENT | ENOTDIR | ENAMETOOLONG => {}
                // It may still be found where we may run it; if not, this is what to say.
                EACCES => result = EACCES,
                _ => return error,
            }
            if *path.add(end) == 0 {
                return result;
            }
            path = path.add(end + 1);
        }
    }
}

/// Returns the value of `PATH`, or the default.
///
/// # Safety
/// `envp` is an array of C strings that ends in a null pointer.
unsafe fn path(mut envp: *const *const u8) -> *const u8 {
    // SAFETY: the array is read up to its null, and each string no further than its first byte that differs from
    // `PATH=`, which its zero does.
    unsafe {
        while !(*envp).is_null() {
            let variable = *envp;
            let mut same = 0;
            for wanted in b"PATH=" {
                if *variable.add(same) != *wanted {
                    break;
                }
                same += 1;
            }
            if same == 5 {
                return variable.add(5);
            }
            envp = envp.add(1);
        }
    }
    PATH.as_ptr()
}

/// What was in force before this process changed it, for the child to go back to.
struct Before {
    mask: u64,
    chld: Action,
    ttin: Action,
    ttou: Action,
}

/// Sets how a signal is handled and returns what was set before.
fn handle(signal: usize, action: &Action) -> Action {
    let mut old = EMPTY;
    // SAFETY: both structures are laid out as the kernel's and live through the call; the mask is 8 bytes. No handler
    // is ever a function of ours, so none can be called.
    unsafe { call(nr::SIGACTION, signal, action as *const Action as usize, &raw mut old as usize, 8, 0) };
    old
}

/// Sets the mask of blocked signals and returns the one before.
fn block(mask: u64) -> u64 {
    let mut old = 0_u64;
    // SAFETY: both masks are 8 bytes, as the last argument says, and live through the call.
    unsafe { call(nr::SIGPROCMASK, SIG_SETMASK, &raw const mask as usize, &raw mut old as usize, 8, 0) };
    old
}

/// Becomes the program, in a process group of its own that has the terminal if there is one.
///
/// # Safety
/// As [`run`].
unsafe fn child(argv: *const *const u8, envp: *const *const u8, before: &Before) -> ! {
    // SAFETY: numbers only, and a pointer to a process id that the kernel reads. Without a terminal the ioctl fails,
    // which is how it should be; SIGTTOU is still ignored, so that it does not stop us.
    unsafe {
        call(nr::SETPGID, 0, 0, 0, 0, 0);
        let group = call(nr::GETPID, 0, 0, 0, 0, 0) as i32;
        call(nr::IOCTL, 0, TIOCSPGRP, &raw const group as usize, 0, 0);
    }
    handle(SIGCHLD, &before.chld);
    handle(SIGTTIN, &before.ttin);
    handle(SIGTTOU, &before.ttou);
    block(before.mask);
    // SAFETY: the caller's promise is the same.
    unsafe {
        let error = run(argv, envp);
        refuse(*argv, error)
    }
}

/// Reaps all that have ended; returns the exit code once the child is among them.
fn reap(child: isize) -> Option<usize> {
    let mut code = None;
    loop {
        let mut status = 0_i32;
        // SAFETY: the status is 4 bytes that live through the call, and no usage is asked for.
        let pid = unsafe { call(nr::WAIT4, usize::MAX, &raw mut status as usize, WNOHANG, 0, 0) };
        if pid <= 0 {
            return code;
        }
        if pid == child {
            let signal = (status & 0x7f) as usize;
            code = Some(if signal == 0 { (status >> 8 & 0xff) as usize } else { 128 + signal });
        }
    }
}

/// # Safety
/// `stack` points to what the kernel gives a new program (execve(2)): argc, the arguments and a null, the environment
/// and a null.
unsafe extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: that is how the stack is laid out; with at least two arguments, the second begins a shorter array that
    // ends in the same null.
    let (argc, argv, envp) = unsafe {
        let argc = *stack;
        let argv = stack.add(1).cast::<*const u8>();
        (argc, argv.add(1), argv.add(argc + 1))
    };
    if argc < 2 {
        say(b"usage: init PROGRAM [ARGUMENT...]\n");
        exit(125);
    }
    let ignore = Action { handler: SIG_IGN, ..EMPTY };
    let before = Before {
        mask: block(SIGNALS),
        // An inherited SIG_IGN would have the kernel reap the child, and its exit code would be lost.
        chld: handle(SIGCHLD, &EMPTY),
        ttin: handle(SIGTTIN, &ignore),
        ttou: handle(SIGTTOU, &ignore),
    };
    // As process 1 this changes nothing; elsewhere it brings the orphans here.
    // SAFETY: numbers only.
    unsafe { call(nr::PRCTL, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };

    // SAFETY: without CLONE_VM and with no new stack this is fork(2): the child has a copy of everything. There is
    // one thread and no lock.
    let pid = unsafe { call(nr::CLONE, SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: the arrays are the kernel's, copied.
        unsafe { child(argv, envp, &before) }
    }
    if pid < 0 {
        say(b"init: cannot make a process\n");
        exit(125);
    }
    // What else was inherited is the child's alone, or it would stay open here after the child has closed it.
    // SAFETY: this process uses no descriptor above 2.
    unsafe { call(nr::CLOSE_RANGE, 3, 0x7fff_ffff, 0, 0, 0) };

    loop {
        let wanted = SIGNALS;
        // SAFETY: the set is 8 bytes that live through the call; no information and no timeout is asked for.
        let signal = unsafe { call(nr::SIGTIMEDWAIT, &raw const wanted as usize, 0, 0, 8, 0) };
        if signal == SIGCHLD as isize {
            if let Some(code) = reap(pid) {
                exit(code);
            }
        } else if signal > 0 {
            // SAFETY: numbers only. The child is not reaped yet, so the id is still its own.
            unsafe { call(nr::KILL, pid as usize, signal as usize, 0, 0, 0) };
        } else if signal != EINTR {
            say(b"init: cannot wait for signals\n");
            exit(125);
        }
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(125)
}
