//! Users are not asked for by number: glibc would load the host's NSS modules into the static program for it.
//!
//! A static glibc does that with dlopen(3), which works with modules of the same version alone, and brings an eighth of a
//! megabyte of dlopen, iconv and resolver along. The one caller is `std::env::home_dir`, for who has no `HOME`.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};

/// Finds nobody: the answer of getpwuid_r(3) for a number that no user has.
///
/// # Safety
/// `result` may be written to.
#[unsafe(no_mangle)]
unsafe extern "C" fn getpwuid_r(
    _uid: libc::uid_t,
    _entry: *mut libc::passwd,
    _buffer: *mut c_char,
    _size: libc::size_t,
    result: *mut *mut libc::passwd,
) -> c_int {
    // SAFETY: the caller of getpwuid_r(3) has room for the answer there.
    unsafe { *result = std::ptr::null_mut() };
    0
}
