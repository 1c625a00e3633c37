/* What the parts of the floor share. See floor.c for what it is. */
#ifndef FLOOR_H
#define FLOOR_H

#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

/* Says what failed, takes everything away and ends (floor.c). */
noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Dies of `what` and errno when a call failed, else returns its result. */
long check(long result, const char *what);
/* Writes a file that exists, or makes it. */
void write_file(const char *path, const char *text);

/* links.c: a bridge, and a namespace with a veth pair in it. */
void bridge_up(int route, const char *name, uint32_t address);
void bridge_retire(int route, const char *name);
void link_delete_unanswered(int route, const char *name);
void loopback_up(int route);
void pair_up(int route, const char *host, const char *bridge, int netns);
void endpoint_up(int route, const char *name, uint32_t address, uint32_t gateway);
void sysctl_net(const char *name, const char *value);
int netlink_open(int protocol);

/* rules.c: the tables of a network, of the host's guard, and of a container's DNS. */
void rules_network(int nft, const char *table, const char *bridge, uint32_t subnet);
void rules_guard(int nft, const char *table);
void rules_dns(int nft, uint32_t server, uint16_t udp, uint16_t tcp);
void rules_port(int nft, const char *table, uint16_t port, uint32_t to, uint16_t target, int add);
void rules_delete(int nft, const char *table);

/* message.c: netlink messages in one buffer, sent together. */
struct message {
    size_t length, start;
    uint32_t sequence;
    char bytes[16384];
};
void message_begin(struct message *m, uint16_t type, uint16_t flags, const void *header, size_t length);
void message_end(struct message *m);
void message_attribute(struct message *m, uint16_t type, const void *value, size_t length);
void message_text(struct message *m, uint16_t type, const char *text);
void message_number(struct message *m, uint16_t type, uint32_t number);
void message_u32(struct message *m, uint16_t type, uint32_t number);
size_t message_nest(struct message *m, uint16_t type);
void message_raw(struct message *m, const void *value, size_t length);
void message_close(struct message *m, size_t nest);
void message_exchange(struct message *m, int socket, uint32_t answers, const char *what);

/* box.c: one container's process. */
struct box {
    const char *rootfs;
    char disk[256], run[256], cgroup[256], pin[256], link[16];
    int netns, cgroup_fd, fifo[2], dns[2], port, pid, pidfd, report;
};
void box_start(struct box *box);
long box_exec(const struct box *box);
void wait_readable(int fd, const char *what);
void read_report(int report);

#endif
