/*
 * One container's process: what is prepared before the clone, and the straight line from clone to exec.
 *
 * The calls, their order and their flags are those of hoist's runtime (src/runtime/child.rs says why they are in this
 * order); the values are those of a Docker container that asks for nothing.
 */
#include "floor.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INTO_CGROUP 0x200000000ULL   /* CLONE_INTO_CGROUP */
#define CLEAR_SIGHAND 0x100000000ULL /* CLONE_CLEAR_SIGHAND */
#define RECURSIVE 0x8000             /* AT_RECURSIVE */
#define DOCKER_CAPABILITIES 0xa80425fbULL
#define REPORT 3 /* where the child keeps the pipe that its exec closes */

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "the floor is written for x86_64 and aarch64"
#endif

/* Between clone and exec: says what failed and ends. */
static noreturn void fail(int report, const char *what) {
    char text[160];
    int length = snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
    if (write(report, text, (size_t)length) < 0) _exit(125);
    _exit(126);
}

#define MUST(call, what)                    \
    do {                                    \
        if ((call) < 0) fail(report, what); \
    } while (0)

/* Mounts. */

static int overlay(const struct box *box) {
    char upper[300], work[300];
    snprintf(upper, sizeof upper, "%s/upper", box->disk);
    snprintf(work, sizeof work, "%s/work", box->disk);
    int context = (int)check(fsopen("overlay", FSOPEN_CLOEXEC), "fsopen overlay");
    check(fsconfig(context, FSCONFIG_SET_STRING, "source", "overlay", 0), "overlay source");
    check(fsconfig(context, FSCONFIG_SET_STRING, "lowerdir", box->rootfs, 0), "overlay lowerdir");
    check(fsconfig(context, FSCONFIG_SET_STRING, "upperdir", upper, 0), "overlay upperdir");
    check(fsconfig(context, FSCONFIG_SET_STRING, "workdir", work, 0), "overlay workdir");
    check(fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "create overlay");
    int mount = (int)check(fsmount(context, FSMOUNT_CLOEXEC, 0), "fsmount overlay");
    close(context);
    return mount;
}

static int bind_of(const struct box *box, const char *name, const char *text) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", box->run, name);
    write_file(path, text);
    int tree = (int)check(open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | RECURSIVE), "clone bind");
    struct mount_attr private = {.propagation = MS_PRIVATE};
    check(mount_setattr(tree, "", AT_EMPTY_PATH | RECURSIVE, &private, sizeof private), "private bind");
    return tree;
}

static int open_in(int root, const char *path, int flags) {
    struct open_how how = {
        .flags = (uint64_t)(flags | O_PATH | O_CLOEXEC),
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

static void attach(int report, int mount, int place) {
    MUST(move_mount(mount, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), "attach mount");
    close(mount);
}

static int make_fs(int report, const char *kind, const char *const *options, unsigned attributes) {
    int context = fsopen(kind, FSOPEN_CLOEXEC);
    MUST(context, kind);
    for (; options && *options; options += 2)
        MUST(options[1] ? fsconfig(context, FSCONFIG_SET_STRING, options[0], options[1], 0)
                        : fsconfig(context, FSCONFIG_SET_FLAG, options[0], NULL, 0),
             options[0]);
    MUST(fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), kind);
    int mount = fsmount(context, FSMOUNT_CLOEXEC, attributes);
    MUST(mount, kind);
    close(context);
    return mount;
}

static void devices(int report, int root) {
    static const struct {
        const char *name;
        unsigned major, minor;
    } nodes[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
    static const char *const links[][2] = {
        {"/proc/self/fd", "fd"},       {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
        {"/proc/self/fd/2", "stderr"}, {"/proc/kcore", "core"},      {"pts/ptmx", "ptmx"},
    };
    int dev = open_in(root, "dev", O_DIRECTORY);
    MUST(dev, "open /dev");
    umask(0);
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
        MUST(mknodat(dev, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].name);
    umask(022);
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        MUST(symlinkat(links[i][0], dev, links[i][1]), links[i][1]);
    close(dev);
}

static void mounts(int report, int root, const int binds[3]) {
    enum { NOSUID = MOUNT_ATTR_NOSUID, NODEV = MOUNT_ATTR_NODEV, NOEXEC = MOUNT_ATTR_NOEXEC, RO = MOUNT_ATTR_RDONLY };
    static const struct {
        const char *parent, *name, *kind;
        const char *options[9];
        unsigned attributes;
    } table[] = {
        {NULL, "proc", "proc", {NULL}, NOSUID | NOEXEC | NODEV},
        {NULL, "dev", "tmpfs", {"mode", "755", "size", "65536k", NULL}, NOSUID | MOUNT_ATTR_STRICTATIME},
        {"dev", "pts", "devpts",
         {"newinstance", NULL, "ptmxmode", "0666", "mode", "0620", "gid", "5", NULL}, NOSUID | NOEXEC},
        {NULL, "sys", "sysfs", {NULL}, NOSUID | NOEXEC | NODEV | RO},
        {"sys/fs/cgroup", NULL, "cgroup2", {NULL}, NOSUID | NOEXEC | NODEV | RO},
        {"dev", "mqueue", "mqueue", {NULL}, NOSUID | NOEXEC | NODEV},
        {"dev", "shm", "tmpfs", {"mode", "1777", "size", "67108864", NULL}, NOSUID | NOEXEC | NODEV},
    };
    static const char *const files[] = {"hosts", "hostname", "resolv.conf"};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int place;
        if (table[i].parent && table[i].name) {
            int parent = open_in(root, table[i].parent, 0);
            MUST(parent, table[i].parent);
            MUST(mkdirat(parent, table[i].name, 0755), table[i].name);
            place = open_in(parent, table[i].name, 0);
            close(parent);
        } else {
            place = open_in(root, table[i].parent ? table[i].parent : table[i].name, 0);
        }
        MUST(place, "open target");
        attach(report, make_fs(report, table[i].kind, table[i].options, table[i].attributes), place);
        close(place);
        if (i == 1) devices(report, root);
    }
    int etc = open_in(root, "etc", 0);
    MUST(etc, "open /etc");
    for (size_t i = 0; i < 3; i++) {
        int made = openat(etc, files[i], O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_WRONLY, 0644);
        MUST(made, files[i]);
        close(made);
        int place = open_in(etc, files[i], 0);
        MUST(place, files[i]);
        attach(report, binds[i], place);
        close(place);
    }
    close(etc);
}

static int clone_of(int report, int fd, int recursive) {
    int tree = open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? RECURSIVE : 0));
    MUST(tree, "clone mount");
    return tree;
}

static void masks(int report) {
    static const char *const read_only[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
    static const char *const hidden[] = {
        "proc/acpi",          "proc/asound",      "proc/interrupts", "proc/kcore",      "proc/keys",
        "proc/latency_stats", "proc/sched_debug", "proc/scsi",       "proc/timer_list", "proc/timer_stats",
        "sys/devices/virtual/powercap", "sys/firmware",
    };
    for (size_t i = 0; i < sizeof read_only / sizeof *read_only; i++) {
        int place = open_in(AT_FDCWD, read_only[i], 0);
        if (place < 0) continue;
        int tree = clone_of(report, place, 1);
        struct mount_attr change = {.attr_set = MOUNT_ATTR_RDONLY};
        MUST(mount_setattr(tree, "", AT_EMPTY_PATH | RECURSIVE, &change, sizeof change), read_only[i]);
        attach(report, tree, place);
        close(place);
    }
    int null = open_in(AT_FDCWD, "dev/null", 0), empty = -1;
    MUST(null, "open /dev/null");
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        struct stat stat;
        int place = open_in(AT_FDCWD, hidden[i], 0);
        if (place < 0) continue;
        MUST(fstat(place, &stat), hidden[i]);
        if (S_ISDIR(stat.st_mode) && empty < 0)
            empty = make_fs(report, "tmpfs", NULL,
                            MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
        attach(report, clone_of(report, S_ISDIR(stat.st_mode) ? empty : null, 0), place);
        close(place);
    }
}

/* Who may do what. */

/* A balanced tree over the numbers of system calls, as large as hoist's; all but unknown numbers are allowed. */
#define LEAVES 90

static struct sock_filter filter[2 * LEAVES + 8];
static unsigned short filter_length;

static size_t tree(size_t at, unsigned first, unsigned last) {
    if (first == last) {
        uint32_t answer = first == LEAVES - 1 ? SECCOMP_RET_ERRNO | ENOSYS : SECCOMP_RET_ALLOW; /* no such call */
        filter[at] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer);
        return at + 1;
    }
    unsigned middle = (first + last) / 2 + 1;
    size_t left = tree(at + 1, first, middle - 1);
    filter[at] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, middle * 6, (uint8_t)(left - at - 1), 0);
    return tree(left, middle, last);
}

static void build_filter(void) {
    size_t at = 0;
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    filter[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    filter_length = (unsigned short)tree(at, 0, LEAVES - 1);
}

static void identity(int report) {
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    MUST(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
    MUST(chdir("/"), "chdir");
    char here[4096];
    if (!getcwd(here, sizeof here)) fail(report, "getcwd");
    MUST(close_range(REPORT, UINT32_MAX, CLOSE_RANGE_CLOEXEC), "close-on-exec");
    struct sock_fprog program = {.len = filter_length, .filter = filter};
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program), "seccomp");
    for (unsigned c = 0; c <= CAP_LAST_CAP; c++)
        if (!(DOCKER_CAPABILITIES >> c & 1)) MUST(prctl(PR_CAPBSET_DROP, c, 0, 0, 0), "drop capability");
    MUST(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities");
    gid_t root = 0;
    MUST(setgroups(1, &root), "setgroups");
    MUST(setresgid(0, 0, 0), "setresgid");
    MUST(setresuid(0, 0, 0), "setresuid");
    MUST(prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0), "keep capabilities");
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{(uint32_t)DOCKER_CAPABILITIES, (uint32_t)DOCKER_CAPABILITIES, 0}};
    MUST(syscall(SYS_capset, &header, data), "capset");
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The tests of Docker's device rules: each comparison jumps past its rule when it differs. */
static void confine(int cgroup) {
    static const struct {
        int major, minor;
    } rules[] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}};
    struct bpf_insn code[80];
    unsigned n = 0;
#define OP(c, dst, src, o, i) \
    code[n++] = (struct bpf_insn){.code = (c), .dst_reg = (dst), .src_reg = (src), .off = (short)(o), .imm = (i)}
    OP(BPF_LDX | BPF_MEM | BPF_W, 2, 1, 0, 0);
    OP(BPF_ALU | BPF_MOV | BPF_X, 3, 2, 0, 0);
    OP(BPF_ALU | BPF_AND | BPF_K, 2, 0, 0, 0xffff);
    OP(BPF_ALU | BPF_RSH | BPF_K, 3, 0, 0, 16);
    OP(BPF_LDX | BPF_MEM | BPF_W, 4, 1, 4, 0);
    OP(BPF_LDX | BPF_MEM | BPF_W, 5, 1, 8, 0);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        int with_minor = rules[i].minor >= 0;
        OP(BPF_JMP32 | BPF_JNE | BPF_K, 2, 0, 3 + with_minor, BPF_DEVCG_DEV_CHAR);
        OP(BPF_JMP32 | BPF_JNE | BPF_K, 4, 0, 2 + with_minor, rules[i].major);
        if (with_minor) OP(BPF_JMP32 | BPF_JNE | BPF_K, 5, 0, 2, rules[i].minor);
        OP(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
        OP(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    }
    OP(BPF_ALU | BPF_MOV | BPF_X, 6, 3, 0, 0);
    OP(BPF_ALU | BPF_AND | BPF_K, 6, 0, 0, BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE);
    OP(BPF_JMP32 | BPF_JNE | BPF_K, 6, 0, 2, 0);
    OP(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
    OP(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    OP(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
    OP(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
#undef OP
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE};
    load.insn_cnt = n;
    load.insns = (uintptr_t)code;
    load.license = (uintptr_t) "Apache-2.0";
    int program = (int)check(syscall(SYS_bpf, BPF_PROG_LOAD, &load, 48), "load device program");
    union bpf_attr attachment = {0};
    attachment.target_fd = (uint32_t)cgroup;
    attachment.attach_bpf_fd = (uint32_t)program;
    attachment.attach_type = BPF_CGROUP_DEVICE;
    attachment.attach_flags = BPF_F_ALLOW_MULTI;
    check(syscall(SYS_bpf, BPF_PROG_ATTACH, &attachment, 20), "attach device program");
    close(program);
}

/* Processes. */

static int clone_into(uint64_t flags, int cgroup, int *pidfd) {
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal;
        uint64_t stack, stack_size, tls, set_tid, set_tid_size, cgroup;
    } arguments = {
        .flags = flags | CLONE_PIDFD | INTO_CGROUP | CLEAR_SIGHAND,
        .pidfd = (uintptr_t)pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = (uint64_t)cgroup,
    };
    return (int)check(syscall(SYS_clone3, &arguments, sizeof arguments), "clone3");
}

/* The report moves to its place, everything else from there on is closed. */
static int only_report(int report) {
    MUST(dup3(report, REPORT, O_CLOEXEC), "move report");
    report = REPORT;
    MUST(close_range(REPORT + 1, UINT32_MAX, 0), "close the rest");
    return report;
}

static noreturn void box_child(const struct box *box, int root, const int binds[3], int report) {
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* the one call that hoist does not make: nothing outlives the floor */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    umask(022);
    MUST(setsid(), "setsid");
    MUST(setns(box->netns, CLONE_NEWNET), "join network namespace");
    MUST(unshare(CLONE_NEWCGROUP), "leave cgroup namespace");
    struct mount_attr private = {.propagation = MS_PRIVATE};
    MUST(mount_setattr(AT_FDCWD, "/", AT_EMPTY_PATH | RECURSIVE, &private, sizeof private), "private /");
    MUST(move_mount(root, "", AT_FDCWD, box->run, MOVE_MOUNT_F_EMPTY_PATH), "attach root");
    mounts(report, root, binds);
    MUST(fchdir(root), "enter root");
    MUST(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    MUST(umount2(".", MNT_DETACH), "unmount old root");
    MUST(chdir("/"), "chdir");
    MUST(sethostname("floor", 5), "sethostname");
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    MUST(null, "open /dev/null");
    MUST(dup2(null, 0), "stdin");
    MUST(dup2(box->fifo[0], 1), "stdout");
    MUST(dup2(box->fifo[1], 2), "stderr");
    masks(report);
    report = only_report(report);
    syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "_ses.floor");
    identity(report);
    char *arguments[] = {"payload", NULL}, *environment[] = {"PATH=/bin", NULL};
    MUST(execve("/bin/payload", arguments, environment), "execve");
    _exit(126);
}

/* Everything from the container's directories on; its namespace, links and port are there. Returns after the clone. */
void box_start(struct box *box) {
    if (filter_length == 0) build_filter();
    char path[300];
    box->cgroup_fd = (int)check(open(box->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC), box->cgroup);
    confine(box->cgroup_fd);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", box->run, i == 0 ? "stdout" : "stderr");
        check(mkfifo(path, 0600), path);
        box->fifo[i] = (int)check(open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC), path);
        check(fcntl(box->fifo[i], F_SETPIPE_SZ, 1 << 20), "size of pipe");
    }
    int root = overlay(box);
    int binds[3] = {
        bind_of(box, "hosts", "127.0.0.1\tlocalhost\n"),
        bind_of(box, "hostname", "floor\n"),
        bind_of(box, "resolv.conf", "nameserver 127.0.0.11\n"),
    };
    int report[2];
    check(pipe2(report, O_CLOEXEC), "pipe");
    box->pid = clone_into(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC, box->cgroup_fd, &box->pidfd);
    if (box->pid == 0) box_child(box, root, binds, report[1]);
    box->report = report[0];
    close(report[1]);
    close(root);
    for (int i = 0; i < 3; i++) close(binds[i]);
}

void wait_readable(int fd, const char *what) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    long ready = check(poll(&one, 1, 10000), what);
    if (ready == 0) die("%s: nothing for 10 seconds", what);
}

/* Waits until the exec has closed the child's end; anything that comes before is what failed. */
void read_report(int report) {
    char text[160];
    wait_readable(report, "a container's start");
    long length = check(read(report, text, sizeof text), "read report");
    if (length > 0) die("a container did not start: %.*s", (int)length, text);
    close(report);
}

static noreturn void exec_child(const struct box *box, int report, int out, int err) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    MUST(setsid(), "setsid");
    MUST(setns(box->pidfd, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP), "setns");
    syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "_ses.floor");
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    MUST(null, "open /dev/null");
    MUST(dup2(null, 0), "stdin");
    MUST(dup2(out, 1), "stdout");
    MUST(dup2(err, 2), "stderr");
    umask(022);
    report = only_report(report);
    identity(report);
    char *arguments[] = {"payload", "true", NULL}, *environment[] = {"PATH=/bin", NULL};
    MUST(execve("/bin/payload", arguments, environment), "execve");
    _exit(126);
}

/* Runs `payload true` in a container: from nothing to reaped, with its output read to the end. In microseconds. */
long box_exec(const struct box *box) {
    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    int report[2], out[2], err[2], pidfd, status;
    char rest[64];
    check(pipe2(report, O_CLOEXEC), "pipe");
    check(pipe2(out, O_CLOEXEC), "pipe");
    check(pipe2(err, O_CLOEXEC), "pipe");
    int own = (int)check(open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC), "own pid namespace");
    check(setns(box->pidfd, CLONE_NEWPID), "join pid namespace");
    int pid = clone_into(0, box->cgroup_fd, &pidfd);
    if (pid == 0) exec_child(box, report[1], out[1], err[1]);
    check(setns(own, CLONE_NEWPID), "leave pid namespace");
    close(own);
    close(report[1]);
    close(out[1]);
    close(err[1]);
    read_report(report[0]);
    while (check(read(out[0], rest, sizeof rest), "read stdout") > 0) {}
    while (check(read(err[0], rest, sizeof rest), "read stderr") > 0) {}
    wait_readable(pidfd, "an exec's end");
    check(waitpid(pid, &status, 0), "wait for exec");
    close(out[0]);
    close(err[0]);
    close(pidfd);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    if (status != 0) die("an exec ended with status %#x", status);
    return (ended.tv_sec - begun.tv_sec) * 1000000 + (ended.tv_nsec - begun.tv_nsec) / 1000;
}
