/*
 * What the floor's containers run: as small as hoist's own init, so that neither side pays for a C library.
 *
 *   payload        as process 1: runs `payload wait` as its child, hands SIGTERM on to it, ends when it has ended
 *   payload wait   waits until a signal ends it
 *   payload true   ends at once
 *
 * No library, no start code: cc -O2 -static -nostdlib -ffreestanding.
 */
#include <asm/unistd.h>

#define SIGTERM_NUMBER 15
#define SIGCHLD_NUMBER 17

#if defined(__x86_64__)
__asm__(".globl _start\n_start: xor %ebp, %ebp\nmov %rsp, %rdi\nand $-16, %rsp\ncall start\nud2\n");

static long call(long number, long a, long b, long c, long d, long e) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
__asm__(".globl _start\n_start: mov x29, xzr\nmov x30, xzr\nmov x0, sp\nbl start\nbrk 1\n");

static long call(long number, long a, long b, long c, long d, long e) {
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
#else
#error "the payload is written for x86_64 and aarch64"
#endif

static unsigned long bit(int signal) {
    return 1UL << (signal - 1);
}

static void block(unsigned long signals) {
    call(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&signals, 0, sizeof signals, 0);
}

static _Noreturn void end(int code) {
    for (;;) call(__NR_exit_group, code, 0, 0, 0, 0);
}

static _Noreturn void init(const char *self) {
    unsigned long wanted = bit(SIGTERM_NUMBER) | bit(SIGCHLD_NUMBER);
    block(wanted);
    long child = call(__NR_clone, SIGCHLD_NUMBER, 0, 0, 0, 0);
    if (child < 0) end(125);
    if (child == 0) {
        const char *arguments[] = {self, "wait", 0}, *environment[] = {0};
        block(0);
        call(__NR_execve, (long)self, (long)arguments, (long)environment, 0, 0);
        end(126);
    }
    for (;;) {
        long signal = call(__NR_rt_sigtimedwait, (long)&wanted, 0, 0, sizeof wanted, 0);
        if (signal == SIGTERM_NUMBER) call(__NR_kill, child, SIGTERM_NUMBER, 0, 0, 0);
        if (signal == SIGCHLD_NUMBER && call(__NR_wait4, child, 0, 1 /* WNOHANG */, 0, 0) == child) end(0);
    }
}

__attribute__((used)) _Noreturn void start(long *stack) {
    const char *const *arguments = (const char *const *)(stack + 1);
    if (stack[0] < 2) init("/bin/payload");
    if (arguments[1][0] == 't') end(0);
    for (;;) call(__NR_ppoll, 0, 0, 0, 0, 0);
}
