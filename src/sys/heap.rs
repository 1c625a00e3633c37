//! The heap of a process that lives for milliseconds.

use std::ffi::c_void;

/// How much of the heap is asked for at once: more than the largest of the compose files that the benchmarks load takes.
/// It is address space until it is written to.
const AHEAD: usize = 31 << 20; // malloc maps what is larger than 32 MiB apart, which is no heap (mallopt(3), M_MMAP_THRESHOLD)
/// The largest size that `free` keeps at hand instead of looking for neighbours (mallopt(3), M_MXFAST).
#[cfg(target_env = "gnu")]
const AT_HAND: libc::c_int = 160;

/// Makes allocating quick and giving back slow, which is what a command wants that takes memory and then ends: what is
/// freed stays with us, and the kernel hands the heap out in huge pages where it has them (madvise(2), `MADV_HUGEPAGE`).
/// Loading a file of a thousand services takes some six of sixty milliseconds less so, and a small command what it took.
/// Nothing is wrong when the system does not know of it.
pub fn for_a_short_life() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in
        [(libc::M_MXFAST, AT_HAND), (libc::M_MMAP_THRESHOLD, 32 << 20), (libc::M_TRIM_THRESHOLD, libc::c_int::MAX)]
    {
        // SAFETY: mallopt(3) takes any value and refuses those that it cannot use; no thread of ours is there yet.
        unsafe { libc::mallopt(parameter, value) };
    }
    let mut block: Vec<u8> = Vec::new();
    if block.try_reserve_exact(AHEAD).is_err() {
        return;
    }
    let (start, page) = (block.as_mut_ptr().addr(), 2 << 20);
    let skipped = start.next_multiple_of(page) - start;
    let length = (block.capacity() - skipped) / page * page;
    // SAFETY: the range lies within `block`, which is ours alone and not in use; the advice changes no content.
    unsafe { libc::madvise(block.as_mut_ptr().add(skipped).cast::<c_void>(), length, libc::MADV_HUGEPAGE) };
    // What is dropped here is where the next allocations come from.
}
