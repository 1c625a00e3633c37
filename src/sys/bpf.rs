//! Loading an eBPF program that judges device access, and attaching it to a cgroup.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// One instruction of eBPF, laid out as the kernel's `struct bpf_insn` on a little-endian machine (`linux/bpf.h`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation code.
    pub code: u8,
    /// Destination register in the lower four bits, source register in the upper four.
    pub registers: u8,
    /// Offset of a jump or an access.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads up to and including `prog_flags`; the kernel takes a
/// shorter union as one that ends in zeros.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_ATTACH` reads.
#[repr(C)]
struct AttachAttr {
    target_fd: RawFd,
    attach_bpf_fd: RawFd,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`. Its descriptor is close-on-exec.
///
/// # Errors
/// As bpf(2): `EPERM` without `CAP_BPF` or `CAP_SYS_ADMIN`, `EINVAL` or `EACCES` for a program that the verifier
/// refuses, `E2BIG` for one that is too long.
pub fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    // No helper is called, so the licence is not looked at; it must be there.
    let license = c"Apache-2.0";
    let attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        insns: program.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: `attr` is as long as the size says and laid out as the kernel's union (checked by a test). `insns`
    // points to `insn_cnt` instructions and `license` to a C string; both outlive the call, and the kernel only reads
    // and copies them. There is no log buffer for it to write to.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attr, size_of::<LoadAttr>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us (bpf(2), BPF_PROG_LOAD), and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to a cgroup, beside the ones that its ancestors have: all must allow an access. The
/// program stays while the cgroup does, also after its descriptor is closed.
///
/// # Errors
/// As bpf(2): `EPERM` without the privilege, or when an ancestor's program forbids others below it; `EINVAL` when
/// `cgroup` is not a directory of a cgroup2 file system.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = AttachAttr {
        target_fd: cgroup.as_raw_fd(),
        attach_bpf_fd: program.as_raw_fd(),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI,
        replace_bpf_fd: 0,
    };
    // SAFETY: `attr` is as long as the size says and laid out as the kernel's union (checked by a test); it holds no
    // pointers, and both descriptors are open while they are borrowed.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attr, size_of::<AttachAttr>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn structures_are_laid_out_as_the_kernel_s() {
        // linux/bpf.h; the unions are packed by the natural alignment of their fields.
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!(offset_of!(LoadAttr, insns), 8);
        assert_eq!(offset_of!(LoadAttr, license), 16);
        assert_eq!(offset_of!(LoadAttr, log_buf), 32);
        assert_eq!(offset_of!(LoadAttr, prog_flags), 44);
        assert_eq!(size_of::<LoadAttr>(), 48);
        assert_eq!(size_of::<AttachAttr>(), 20);
    }
}
