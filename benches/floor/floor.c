/*
 * The floor: a fixed program beside which hoist's times are read. It makes the system calls that `hoist up -d` of N
 * services on one network, `hoist down` and `hoist exec` cannot do without, on one thread, and nothing else: no
 * records, no other process, nothing parsed. Change it only when hoist comes to need other calls.
 *
 *   floor time PROGRAM [ARGUMENT...]            runs a program, its output to nowhere, and prints how long it took
 *   floor cycle N PAYLOAD DISK RUN CGROUP       N containers up, then down; prints both times
 *   floor exec PAYLOAD DISK RUN CGROUP          one container; runs `payload true` in it for each line of its input
 *
 * Times are microseconds. PAYLOAD is payload.c's program, DISK and RUN are empty directories of the caller's (one where
 * hoist has its root, one on a tmpfs), CGROUP is a cgroup2 directory to be made. What is counted:
 * - up: from nothing to the exec of the last container's program: the bridge and its rules, forwarding and its guard;
 *   for each container its directories and files, network namespace and pin, veth pair, address, route, DNS sockets and
 *   their redirect, cgroup and device program, log pipes, overlay, binds, and the whole way from clone to exec; one
 *   published port.
 * - down: SIGTERM to all, reaped, port, pins, cgroups, directories, rules, bridge out of use. Not what hoist leaves for
 *   later: the last close of namespaces and sockets and the deletion of the bridge. That is waited for afterwards.
 *
 * It runs in network and mount namespaces of its own, its containers die with it, and whatever stops it but SIGKILL
 * takes away what it made; after SIGKILL DISK, RUN and CGROUP are left for the caller to remove.
 */
#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 1000
#define BRIDGE "fb-floor"
#define TABLE "floor-network"
#define GUARD "floor-guard"
#define DNS_SERVER 0x7f00000b /* 127.0.0.11 */
#define SUBNET 0x0ae70000 /* 10.231.0.0/16, in a namespace of our own */

static struct box boxes[MOST];
static int count; /* boxes that were begun */
static const char *payload, *disk, *run, *cgroup;
static char rootfs[256];
static int home, route, nft;
static int made; /* there is something to take away */

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *at) {
    (void)stat, (void)kind, (void)at;
    return remove(path);
}

static void remove_tree(const char *path) {
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* Takes away whatever is there, from any state. The network goes with the namespace. */
static void clean_up(void) {
    for (int i = 0; i < count; i++)
        if (boxes[i].pid > 0) kill(boxes[i].pid, SIGKILL);
    while (wait(NULL) > 0) {}
    for (int i = 0; i < count; i++) {
        umount2(boxes[i].pin, MNT_DETACH);
        unlink(boxes[i].pin);
        rmdir(boxes[i].cgroup);
        remove_tree(boxes[i].run);
        remove_tree(boxes[i].disk);
    }
    remove_tree(rootfs);
    rmdir(cgroup);
}

noreturn void die(const char *format, ...) {
    int error = errno;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    errno = error;
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (made) clean_up();
    fprintf(stderr, "floor: %s\n", text);
    exit(1);
}

long check(long result, const char *what) {
    if (result < 0) die("%s: %m", what);
    return result;
}

/* SIGINT, SIGTERM and SIGHUP are blocked and looked for here, so that none comes in the middle of something. */
static void stop_if_told(void) {
    sigset_t pending;
    sigpending(&pending);
    if (sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM) || sigismember(&pending, SIGHUP))
        die("interrupted");
}

void write_file(const char *path, const char *text) {
    int fd = (int)check(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644), path);
    check(write(fd, text, strlen(text)), path);
    close(fd);
}

static void format(char *to, size_t size, const char *pattern, const char *parent, int number) {
    if ((size_t)snprintf(to, size, pattern, parent, number) >= size) die("%s is too long", parent);
}

/* What both sides find ready: an image, directories, namespaces of our own. */
static void prepare(void) {
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGHUP);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    struct rlimit limit; /* a container takes eight descriptors */
    check(getrlimit(RLIMIT_NOFILE, &limit), "limit of descriptors");
    limit.rlim_cur = limit.rlim_max;
    check(setrlimit(RLIMIT_NOFILE, &limit), "limit of descriptors");
    check(unshare(CLONE_NEWNET | CLONE_NEWNS), "namespaces of our own");
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private /");
    check(mkdir(cgroup, 0755), cgroup);
    made = 1;
    format(rootfs, sizeof rootfs, "%s/rootfs", disk, 0);
    check(mkdir(rootfs, 0755), rootfs);
    static const char *const directories[] = {"bin", "dev", "etc", "proc", "sys"};
    char path[300];
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
        snprintf(path, sizeof path, "%s/%s", rootfs, directories[i]);
        check(mkdir(path, 0755), path);
    }
    snprintf(path, sizeof path, "%s/bin/payload", rootfs);
    int from = (int)check(open(payload, O_RDONLY | O_CLOEXEC), payload);
    int to = (int)check(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755), path);
    static char bytes[1 << 20];
    long length = check(read(from, bytes, sizeof bytes), payload);
    if (length == sizeof bytes) die("%s is too long for a payload", payload);
    if (write(to, bytes, (size_t)length) != length) die("%s: %m", path);
    close(from);
    close(to);
    home = (int)check(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), "own network namespace");
    route = netlink_open(NETLINK_ROUTE);
    loopback_up(route);
    close(route);
}

static void network_up(void) {
    route = netlink_open(NETLINK_ROUTE);
    nft = netlink_open(NETLINK_NETFILTER);
    bridge_up(route, BRIDGE, htonl(SUBNET | 1));
    rules_network(nft, TABLE, BRIDGE, htonl(SUBNET));
    sysctl_net("ipv4/conf/" BRIDGE "/route_localnet", "1");
    rules_guard(nft, GUARD);
    sysctl_net("ipv4/ip_forward", "1");
}

/* The published port: reserved by a socket that listens and drops everything, and led to the container. */
static int port_up(uint32_t to) {
    struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog program = {.len = 1, .filter = &drop};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(18080)};
    int fd = (int)check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "port socket");
    check(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), "filter of port");
    check(bind(fd, (struct sockaddr *)&address, sizeof address), "bind port");
    check(listen(fd, 1), "listen on port");
    rules_port(nft, TABLE, htons(18080), to, htons(80), 1);
    return fd;
}

/* The two sockets of a container's DNS, on free ports, and the redirect to them; inside its namespace. */
static void dns_up(struct box *box) {
    uint16_t ports[2];
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(DNS_SERVER)};
        socklen_t length = sizeof address;
        int kind = (i == 0 ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
        box->dns[i] = (int)check(socket(AF_INET, kind, 0), "DNS socket");
        check(bind(box->dns[i], (struct sockaddr *)&address, sizeof address), "bind DNS socket");
        if (i == 1) check(listen(box->dns[i], 128), "listen for DNS");
        check(getsockname(box->dns[i], (struct sockaddr *)&address, &length), "port of DNS");
        ports[i] = address.sin_port;
    }
    int inside = netlink_open(NETLINK_NETFILTER);
    rules_dns(inside, htonl(DNS_SERVER), ports[0], ports[1]);
    close(inside);
}

static void box_up(int number) {
    struct box *box = &boxes[number];
    *box = (struct box){.rootfs = rootfs, .port = -1};
    format(box->disk, sizeof box->disk, "%s/box-%d", disk, number);
    format(box->run, sizeof box->run, "%s/box-%d", run, number);
    format(box->cgroup, sizeof box->cgroup, "%s/box-%d", cgroup, number);
    format(box->pin, sizeof box->pin, "%s/netns-%d", run, number);
    format(box->link, sizeof box->link, "%s%d", "fv-", number);
    count = number + 1;

    char path[300];
    check(mkdir(box->disk, 0700), box->disk);
    snprintf(path, sizeof path, "%s/upper", box->disk);
    check(mkdir(path, 0755), path);
    snprintf(path, sizeof path, "%s/work", box->disk);
    check(mkdir(path, 0700), path);
    check(mkdir(box->run, 0700), box->run);
    check(mkdir(box->cgroup, 0755), box->cgroup);

    uint32_t address = htonl((uint32_t)(SUBNET + 2 + number));
    write_file(box->pin, "");
    check(unshare(CLONE_NEWNET), "new network namespace");
    sysctl_net("ipv4/ip_unprivileged_port_start", "0");
    sysctl_net("ipv4/ping_group_range", "0 2147483647");
    int inside = netlink_open(NETLINK_ROUTE);
    loopback_up(inside);
    check(mount("/proc/thread-self/ns/net", box->pin, NULL, MS_BIND, NULL), "pin namespace");
    box->netns = (int)check(open(box->pin, O_RDONLY | O_CLOEXEC), box->pin);
    /* A netlink socket stays where it was opened, and so does what it is asked for. */
    check(setns(home, CLONE_NEWNET), "back home");
    pair_up(route, box->link, BRIDGE, box->netns);
    if (number == 0) box->port = port_up(address);
    check(setns(box->netns, CLONE_NEWNET), "into the namespace");
    endpoint_up(inside, "eth0", address, htonl(SUBNET | 1));
    close(inside);
    dns_up(box);
    check(setns(home, CLONE_NEWNET), "back home");

    box_start(box);
}

static void all_up(int wanted) {
    network_up();
    for (int i = 0; i < wanted; i++) {
        box_up(i);
        stop_if_told();
    }
    for (int i = 0; i < wanted; i++) read_report(boxes[i].report);
}

static void all_down(void) {
    for (int i = 0; i < count; i++)
        check(syscall(SYS_pidfd_send_signal, boxes[i].pidfd, SIGTERM, NULL, 0), "send SIGTERM");
    rules_port(nft, TABLE, htons(18080), 0, 0, 0);
    for (int i = 0; i < count; i++) {
        struct box *box = &boxes[i];
        int status;
        wait_readable(box->pidfd, "a container's end");
        check(waitpid(box->pid, &status, 0), "wait for container");
        box->pid = 0;
        if (status != 0) die("a container ended with status %#x", status);
        check(umount2(box->pin, MNT_DETACH), "unpin namespace");
        check(unlink(box->pin), box->pin);
        close(box->cgroup_fd);
        check(rmdir(box->cgroup), box->cgroup);
        remove_tree(box->run);
        remove_tree(box->disk);
    }
    sysctl_net("ipv4/conf/" BRIDGE "/route_localnet", "0");
    rules_delete(nft, TABLE);
    bridge_retire(route, BRIDGE);
    sysctl_net("ipv4/ip_forward", "0");
    rules_delete(nft, GUARD);
}

/* What nobody waits for after hoist's `down`; here, so that it does not run into the next measurement. */
static void settle(void) {
    link_delete_unanswered(route, BRIDGE);
    for (int i = 0; i < count; i++) {
        struct box *box = &boxes[i];
        int fds[] = {box->netns, box->pidfd, box->fifo[0], box->fifo[1], box->dns[0], box->dns[1], box->port};
        for (size_t f = 0; f < sizeof fds / sizeof *fds; f++)
            if (fds[f] >= 0) close(fds[f]);
    }
    close(nft);
    for (int tries = 0; tries < 2000; tries++) {
        int links = 0;
        struct if_nameindex *all = if_nameindex();
        for (struct if_nameindex *link = all; link && link->if_index; link++) links++;
        if_freenameindex(all);
        if (links <= 1) return;
        usleep(5000);
    }
    die("links are left after 10 seconds");
}

static void cycle(int wanted) {
    prepare();
    long begun = now();
    all_up(wanted);
    long up = now();
    usleep(100000); /* as hoist's containers have by then: the payloads are up, nothing is on its way */
    long between = now();
    all_down();
    long down = now();
    settle();
    clean_up();
    printf("%ld %ld\n", up - begun, down - between);
}

static void exec_each(void) {
    char line[16];
    prepare();
    all_up(1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready\n");
    while (fgets(line, sizeof line, stdin)) {
        stop_if_told();
        printf("%ld\n", box_exec(&boxes[0]));
    }
    all_down();
    settle();
    clean_up();
}

extern char **environ;

static int time_program(char **arguments) {
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    /* The program gets the signals that end it, and this one waits until it has ended. */
    posix_spawnattr_t attributes;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &signals);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    long begun = now();
    int error = posix_spawnp(&pid, arguments[0], &actions, &attributes, arguments, environ);
    if (error) {
        errno = error;
        die("%s: %m", arguments[0]);
    }
    check(waitpid(pid, &status, 0), "waitpid");
    printf("%ld\n", now() - begun);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "time") == 0 && argc > 2) return time_program(argv + 2);
    int is_cycle = strcmp(command, "cycle") == 0 && argc == 7;
    if (!is_cycle && !(strcmp(command, "exec") == 0 && argc == 6)) {
        fprintf(stderr, "usage: floor time PROGRAM...\n"
                        "       floor cycle N PAYLOAD DISK RUN CGROUP\n"
                        "       floor exec PAYLOAD DISK RUN CGROUP\n");
        return 2;
    }
    char **paths = argv + argc - 4;
    payload = paths[0], disk = paths[1], run = paths[2], cgroup = paths[3];
    if (!is_cycle) {
        exec_each();
        return 0;
    }
    int wanted = atoi(argv[2]);
    if (wanted < 1 || wanted > MOST) die("N is 1 to %d", MOST);
    cycle(wanted);
    return 0;
}
