/* Bridge, veth pairs, addresses and routes (rtnetlink(7)): the messages that hoist sends. */
#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct ifinfomsg no_link;

static uint32_t index_of(const char *name) {
    uint32_t index = if_nametoindex(name);
    if (index == 0) die("no link %s: %m", name);
    return index;
}

static void put_up(struct message *m, uint32_t index) {
    struct ifinfomsg link = {.ifi_index = (int)index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    message_begin(m, RTM_SETLINK, NLM_F_ACK, &link, sizeof link);
    message_end(m);
}

static void put_address(struct message *m, uint32_t index, uint32_t address) {
    struct ifaddrmsg header = {.ifa_family = AF_INET, .ifa_prefixlen = 16, .ifa_index = index};
    uint32_t broadcast = address | htonl(0xffff);
    message_begin(m, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof header);
    message_u32(m, IFA_LOCAL, address);
    message_u32(m, IFA_ADDRESS, address);
    message_u32(m, IFA_BROADCAST, broadcast);
    message_end(m);
}

void sysctl_net(const char *name, const char *value) {
    char path[160];
    snprintf(path, sizeof path, "/proc/sys/net/%s", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && strncmp(name, "ipv6", 4) == 0) return; /* a kernel without it */
    check(fd, path);
    check(write(fd, value, strlen(value)), path);
    close(fd);
}

static void sysctl_of(const char *format, const char *link, const char *value) {
    char name[128];
    snprintf(name, sizeof name, format, link);
    sysctl_net(name, value);
}

void bridge_up(int route, const char *name, uint32_t address) {
    static struct message m;
    m = (struct message){.length = 0};
    message_begin(&m, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &no_link, sizeof no_link);
    message_text(&m, IFLA_IFNAME, name);
    message_u32(&m, IFLA_MTU, 1500);
    message_attribute(&m, IFLA_ADDRESS, "\x02\x66\x6c\x6f\x6f\x72", 6);
    size_t info = message_nest(&m, IFLA_LINKINFO);
    message_text(&m, IFLA_INFO_KIND, "bridge");
    message_close(&m, info);
    message_end(&m);
    message_exchange(&m, route, 1, "create bridge");

    sysctl_of("ipv4/conf/%s/rp_filter", name, "2");
    sysctl_of("ipv6/conf/%s/disable_ipv6", name, "1");
    uint32_t index = index_of(name);
    m = (struct message){.length = 0};
    struct ifinfomsg link = {.ifi_index = (int)index};
    message_begin(&m, RTM_SETLINK, NLM_F_ACK, &link, sizeof link);
    message_text(&m, IFLA_IFALIAS, "floor");
    message_end(&m);
    put_address(&m, index, address);
    put_up(&m, index);
    message_exchange(&m, route, 3, "put bridge up");
}

/* Takes the bridge's address and puts it down; its deletion waits for RCU and belongs to nobody's way. */
void bridge_retire(int route, const char *name) {
    static struct message m;
    m = (struct message){.length = 0};
    struct ifaddrmsg address = {.ifa_family = AF_INET, .ifa_index = index_of(name)};
    message_begin(&m, RTM_DELADDR, NLM_F_ACK, &address, sizeof address);
    message_end(&m);
    struct ifinfomsg down = {.ifi_index = (int)address.ifa_index, .ifi_change = IFF_UP};
    message_begin(&m, RTM_SETLINK, NLM_F_ACK, &down, sizeof down);
    message_end(&m);
    message_exchange(&m, route, 2, "retire bridge");
}

void link_delete_unanswered(int route, const char *name) {
    static struct message m;
    m = (struct message){.length = 0};
    message_begin(&m, RTM_DELLINK, 0, &no_link, sizeof no_link);
    message_text(&m, IFLA_IFNAME, name);
    message_end(&m);
    message_exchange(&m, route, 0, "delete link");
}

/* The pair in one message, its other end straight in the namespace; then alias and hairpin. */
void pair_up(int route, const char *host, const char *bridge, int netns) {
    static struct message m;
    m = (struct message){.length = 0};
    struct ifinfomsg up = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    message_begin(&m, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &up, sizeof up);
    message_text(&m, IFLA_IFNAME, host);
    message_u32(&m, IFLA_MTU, 1500);
    message_u32(&m, IFLA_MASTER, index_of(bridge));
    size_t info = message_nest(&m, IFLA_LINKINFO);
    message_text(&m, IFLA_INFO_KIND, "veth");
    size_t data = message_nest(&m, IFLA_INFO_DATA);
    size_t peer = message_nest(&m, VETH_INFO_PEER);
    message_raw(&m, &no_link, sizeof no_link);
    message_text(&m, IFLA_IFNAME, "eth0");
    message_u32(&m, IFLA_MTU, 1500);
    message_u32(&m, IFLA_NET_NS_FD, (uint32_t)netns);
    message_close(&m, peer);
    message_close(&m, data);
    message_close(&m, info);
    message_end(&m);

    message_begin(&m, RTM_NEWLINK, NLM_F_ACK, &no_link, sizeof no_link);
    message_text(&m, IFLA_IFNAME, host);
    message_text(&m, IFLA_IFALIAS, "floor");
    info = message_nest(&m, IFLA_LINKINFO);
    message_text(&m, IFLA_INFO_SLAVE_KIND, "bridge");
    data = message_nest(&m, IFLA_INFO_SLAVE_DATA);
    message_attribute(&m, IFLA_BRPORT_MODE, "\x01", 1);
    message_close(&m, data);
    message_close(&m, info);
    message_end(&m);
    message_exchange(&m, route, 2, "create veth pair");
}

void loopback_up(int route) {
    static struct message m;
    m = (struct message){.length = 0};
    put_up(&m, 1);
    message_exchange(&m, route, 1, "put lo up");
}

void endpoint_up(int route, const char *name, uint32_t address, uint32_t gateway) {
    static struct message m;
    sysctl_of("ipv4/conf/%s/rp_filter", name, "2");
    sysctl_of("ipv4/conf/%s/arp_notify", name, "1");
    sysctl_of("ipv6/conf/%s/disable_ipv6", name, "1");
    uint32_t index = index_of(name);
    m = (struct message){.length = 0};
    put_address(&m, index, address);
    put_up(&m, index);
    struct rtmsg header = {
        .rtm_family = AF_INET,
        .rtm_table = RT_TABLE_MAIN,
        .rtm_protocol = RTPROT_BOOT,
        .rtm_scope = RT_SCOPE_UNIVERSE,
        .rtm_type = RTN_UNICAST,
    };
    message_begin(&m, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof header);
    message_u32(&m, RTA_GATEWAY, gateway);
    message_u32(&m, RTA_OIF, index);
    message_end(&m);
    message_exchange(&m, route, 3, "put endpoint up");
}
