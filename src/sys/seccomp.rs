//! Loading a seccomp filter into the calling thread.

use std::io;

/// One instruction of classic BPF, laid out as the kernel's `struct sock_filter` (`linux/filter.h`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// Operation code.
    pub code: u16,
    /// Instructions to skip when the comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Leave the speculative store bypass mitigation as it is, which is what runc does (`SECCOMP_FILTER_FLAG_SPEC_ALLOW`).
pub const SPEC_ALLOW: u32 = 1 << 2;
/// Give the filter to all threads of the process (`SECCOMP_FILTER_FLAG_TSYNC`).
pub const TSYNC: u32 = 1;

/// The kernel's `SECCOMP_SET_MODE_FILTER`.
const SET_MODE_FILTER: libc::c_uint = 1;

/// Adds a filter to the calling thread, for good. Makes one system call and allocates nothing.
///
/// Needs `no_new_privs`, or `CAP_SYS_ADMIN` in the caller's user namespace.
///
/// # Errors
/// As seccomp(2): `EACCES` without the privilege, `EINVAL` for a program that the kernel does not accept, `E2BIG`
/// for one of more than 65,535 instructions (the kernel's own limit, 4096, gives `EINVAL`).
pub fn load(program: &[Instruction], flags: u32) -> io::Result<()> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    };
    // The kernel reads through this pointer and never writes; the field is `*mut` only by C's habit.
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast::<libc::sock_filter>() };
    // SAFETY: `Instruction` is `repr(C)` with the fields and types of `sock_filter` (checked by a test), `filter` is
    // valid for `len` of them until the call returns because `program` borrows the slice, and the kernel copies both
    // structures before it returns (seccomp(2)), so nothing of ours is aliased or kept.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) };
    match result {
        0 => Ok(()),
        // With TSYNC the kernel answers the id of a thread that cannot take the filter.
        1.. => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Calls clone3(2) with no arguments at all: `EINVAL` from the kernel, or whatever a filter says instead.
#[cfg(test)]
pub(crate) fn clone3_of_nothing() -> io::Error {
    // SAFETY: a size of 0 is less than the kernel's smallest `clone_args`, so it fails with EINVAL before it reads
    // the null pointer, and no process is made (clone(2), ERRORS).
    unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<libc::clone_args>(), 0_usize) };
    io::Error::last_os_error()
}

#[cfg(test)]
mod tests {
    use std::mem::{align_of, offset_of, size_of};

    use super::*;

    #[test]
    fn an_instruction_is_laid_out_as_the_kernel_s() {
        assert_eq!(size_of::<Instruction>(), size_of::<libc::sock_filter>());
        assert_eq!(align_of::<Instruction>(), align_of::<libc::sock_filter>());
        assert_eq!(offset_of!(Instruction, code), offset_of!(libc::sock_filter, code));
        assert_eq!(offset_of!(Instruction, jt), offset_of!(libc::sock_filter, jt));
        assert_eq!(offset_of!(Instruction, jf), offset_of!(libc::sock_filter, jf));
        assert_eq!(offset_of!(Instruction, k), offset_of!(libc::sock_filter, k));
    }

    #[test]
    fn a_program_that_is_too_long_is_refused_before_the_kernel_sees_it() {
        let program = vec![Instruction { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 }; 65_536];
        assert_eq!(load(&program, 0).unwrap_err().raw_os_error(), Some(libc::E2BIG));
    }
}
