/* Netlink messages in one buffer, sent together (netlink(7)). */
#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

int netlink_open(int protocol) {
    int fd = (int)check(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, protocol), "netlink socket");
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    check(bind(fd, (struct sockaddr *)&address, sizeof address), "bind netlink socket");
    return fd;
}

void message_raw(struct message *m, const void *value, size_t length) {
    size_t padded = NLMSG_ALIGN(length);
    if (m->length + padded > sizeof m->bytes) die("a netlink message is too long");
    memset(m->bytes + m->length, 0, padded);
    memcpy(m->bytes + m->length, value, length);
    m->length += padded;
}

void message_begin(struct message *m, uint16_t type, uint16_t flags, const void *header, size_t length) {
    struct nlmsghdr h = {.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags, .nlmsg_seq = m->sequence};
    m->start = m->length;
    m->sequence++;
    message_raw(m, &h, sizeof h);
    message_raw(m, header, length);
}

void message_end(struct message *m) {
    ((struct nlmsghdr *)(void *)(m->bytes + m->start))->nlmsg_len = (uint32_t)(m->length - m->start);
}

void message_attribute(struct message *m, uint16_t type, const void *value, size_t length) {
    struct nlattr a = {.nla_len = (uint16_t)(sizeof a + length), .nla_type = type};
    message_raw(m, &a, sizeof a);
    message_raw(m, value, length);
}

void message_text(struct message *m, uint16_t type, const char *text) {
    message_attribute(m, type, text, strlen(text) + 1);
}

/* A number in network order, as nf_tables wants it. */
void message_number(struct message *m, uint16_t type, uint32_t number) {
    number = htonl(number);
    message_attribute(m, type, &number, sizeof number);
}

/* A number of the machine, as rtnetlink wants it. */
void message_u32(struct message *m, uint16_t type, uint32_t number) {
    message_attribute(m, type, &number, sizeof number);
}

size_t message_nest(struct message *m, uint16_t type) {
    size_t at = m->length;
    struct nlattr a = {.nla_type = type | NLA_F_NESTED};
    message_raw(m, &a, sizeof a);
    return at;
}

void message_close(struct message *m, size_t nest) {
    ((struct nlattr *)(void *)(m->bytes + nest))->nla_len = (uint16_t)(m->length - nest);
}

/* Sends all and waits for so many acknowledgements; a refusal ends the program. */
void message_exchange(struct message *m, int socket, uint32_t answers, const char *what) {
    static char received[65536] __attribute__((aligned(8)));
    check(send(socket, m->bytes, m->length, 0), what);
    while (answers > 0) {
        size_t left = (size_t)check(recv(socket, received, sizeof received, 0), what);
        struct nlmsghdr *h = (struct nlmsghdr *)(void *)received;
        for (; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type != NLMSG_ERROR) continue;
            struct nlmsgerr *error = NLMSG_DATA(h);
            if (error->error) {
                errno = -error->error;
                die("%s: message %u: %m", what, h->nlmsg_seq);
            }
            answers--;
        }
    }
}
