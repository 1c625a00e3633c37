/* The nf_tables transactions that hoist sends (linux/netfilter/nf_tables.h): the same chains, rules and maps. */
#include "floor.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define EQUAL NFT_CMP_EQ
#define DIFFERENT NFT_CMP_NEQ

static struct message m;

static void begin(void) {
    struct nfgenmsg header = {.res_id = htons(NFNL_SUBSYS_NFTABLES)};
    m = (struct message){.length = 0};
    message_begin(&m, NFNL_MSG_BATCH_BEGIN, 0, &header, sizeof header);
    message_end(&m);
}

static void push(int type, uint16_t flags, const char *table) {
    struct nfgenmsg header = {.nfgen_family = NFPROTO_IPV4};
    message_begin(&m, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), NLM_F_ACK | flags, &header, sizeof header);
    message_text(&m, NFTA_TABLE_NAME, table); /* the first attribute of each kind of message */
}

static void commit(int nft, const char *what) {
    uint32_t answers = m.sequence - 1;
    struct nfgenmsg header = {.res_id = htons(NFNL_SUBSYS_NFTABLES)};
    message_begin(&m, NFNL_MSG_BATCH_END, 0, &header, sizeof header);
    message_end(&m);
    message_exchange(&m, nft, answers, what);
}

static void map(const char *table, const char *name, uint32_t id, uint32_t type, uint32_t length) {
    push(NFT_MSG_NEWSET, NLM_F_CREATE, table);
    message_text(&m, NFTA_SET_NAME, name);
    message_number(&m, NFTA_SET_FLAGS, NFT_SET_MAP);
    message_number(&m, NFTA_SET_KEY_TYPE, type);
    message_number(&m, NFTA_SET_KEY_LEN, length);
    message_number(&m, NFTA_SET_DATA_TYPE, 7 << 6 | 13);
    message_number(&m, NFTA_SET_DATA_LEN, 8);
    message_number(&m, NFTA_SET_ID, id);
    message_end(&m);
}

static void chain(const char *table, const char *name, const char *type, uint32_t hook, int priority, uint32_t policy) {
    push(NFT_MSG_NEWCHAIN, NLM_F_CREATE, table);
    message_text(&m, NFTA_CHAIN_NAME, name);
    if (type) {
        size_t nest = message_nest(&m, NFTA_CHAIN_HOOK);
        message_number(&m, NFTA_HOOK_HOOKNUM, hook);
        message_number(&m, NFTA_HOOK_PRIORITY, (uint32_t)priority);
        message_close(&m, nest);
        message_number(&m, NFTA_CHAIN_POLICY, policy);
        message_text(&m, NFTA_CHAIN_TYPE, type);
    }
    message_end(&m);
}

/* A rule is opened, gets its expressions, and is closed. */
static size_t expressions;

static void rule(const char *table, const char *of_chain) {
    push(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, table);
    message_text(&m, NFTA_RULE_CHAIN, of_chain);
    expressions = message_nest(&m, NFTA_RULE_EXPRESSIONS);
}

static void end_rule(void) {
    message_close(&m, expressions);
    message_end(&m);
}

struct nests {
    size_t element, data;
};

static struct nests expression(const char *name) {
    struct nests nests;
    nests.element = message_nest(&m, NFTA_LIST_ELEM);
    message_text(&m, NFTA_EXPR_NAME, name);
    nests.data = message_nest(&m, NFTA_EXPR_DATA);
    return nests;
}

static void end_expression(struct nests nests) {
    message_close(&m, nests.data);
    message_close(&m, nests.element);
}

static void value(uint16_t type, const void *bytes, size_t length) {
    size_t nest = message_nest(&m, type);
    message_attribute(&m, NFTA_DATA_VALUE, bytes, length);
    message_close(&m, nest);
}

static void meta(uint32_t key, uint32_t to) {
    struct nests nests = expression("meta");
    message_number(&m, NFTA_META_DREG, to);
    message_number(&m, NFTA_META_KEY, key);
    end_expression(nests);
}

static void payload(uint32_t base, uint32_t offset, uint32_t length, uint32_t to) {
    struct nests nests = expression("payload");
    message_number(&m, NFTA_PAYLOAD_DREG, to);
    message_number(&m, NFTA_PAYLOAD_BASE, base);
    message_number(&m, NFTA_PAYLOAD_OFFSET, offset);
    message_number(&m, NFTA_PAYLOAD_LEN, length);
    end_expression(nests);
}

static void compare(uint32_t how, const void *bytes, size_t length) {
    struct nests nests = expression("cmp");
    message_number(&m, NFTA_CMP_SREG, NFT_REG_1);
    message_number(&m, NFTA_CMP_OP, how);
    value(NFTA_CMP_DATA, bytes, length);
    end_expression(nests);
}

static void mask(const void *bits) {
    struct nests nests = expression("bitwise");
    message_number(&m, NFTA_BITWISE_SREG, NFT_REG_1);
    message_number(&m, NFTA_BITWISE_DREG, NFT_REG_1);
    message_number(&m, NFTA_BITWISE_LEN, 4);
    value(NFTA_BITWISE_MASK, bits, 4);
    value(NFTA_BITWISE_XOR, "\0\0\0\0", 4);
    end_expression(nests);
}

static void interface(uint32_t key, const char *name, uint32_t how) {
    char padded[IFNAMSIZ] = "";
    strncpy(padded, name, sizeof padded - 1);
    meta(key, NFT_REG_1);
    compare(how, padded, sizeof padded);
}

static void interface_prefix(uint32_t key, const char *prefix) {
    meta(key, NFT_REG_1);
    compare(EQUAL, prefix, strlen(prefix));
}

/* The source (12) or destination (16) address is in a network. */
static void address(uint32_t offset, uint32_t network, uint32_t netmask) {
    payload(NFT_PAYLOAD_NETWORK_HEADER, offset, 4, NFT_REG_1);
    if (netmask != UINT32_MAX) mask(&netmask);
    compare(EQUAL, &network, sizeof network);
}

static void connection(uint32_t key, uint32_t bits) {
    struct nests nests = expression("ct");
    message_number(&m, NFTA_CT_DREG, NFT_REG_1);
    message_number(&m, NFTA_CT_KEY, key);
    end_expression(nests);
    mask(&bits);
    compare(DIFFERENT, "\0\0\0\0", 4);
}

static void verdict(int32_t code, const char *to) {
    struct nests nests = expression("immediate");
    message_number(&m, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    size_t data = message_nest(&m, NFTA_IMMEDIATE_DATA);
    size_t inner = message_nest(&m, NFTA_DATA_VERDICT);
    message_number(&m, NFTA_VERDICT_CODE, (uint32_t)code);
    if (to) message_text(&m, NFTA_VERDICT_CHAIN, to);
    message_close(&m, inner);
    message_close(&m, data);
    end_expression(nests);
}

static void immediate(uint32_t to, const void *bytes, size_t length) {
    struct nests nests = expression("immediate");
    message_number(&m, NFTA_IMMEDIATE_DREG, to);
    value(NFTA_IMMEDIATE_DATA, bytes, length);
    end_expression(nests);
}

static void nat(void) {
    struct nests nests = expression("nat");
    message_number(&m, NFTA_NAT_TYPE, NFT_NAT_DNAT);
    message_number(&m, NFTA_NAT_FAMILY, NFPROTO_IPV4);
    message_number(&m, NFTA_NAT_REG_ADDR_MIN, NFT_REG32_08);
    message_number(&m, NFTA_NAT_REG_PROTO_MIN, NFT_REG32_09);
    end_expression(nests);
}

static void masquerade(void) {
    end_expression(expression("masq"));
}

static void dnat_by(const char *name, int with_address) {
    uint32_t at = NFT_REG32_00;
    if (with_address) payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 4, at++);
    meta(NFT_META_L4PROTO, at);
    payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, at + 1);
    struct nests nests = expression("lookup");
    message_text(&m, NFTA_LOOKUP_SET, name);
    message_number(&m, NFTA_LOOKUP_SREG, NFT_REG32_00);
    message_number(&m, NFTA_LOOKUP_DREG, NFT_REG32_08);
    end_expression(nests);
    nat();
}

static void jump_if_local(const char *to) {
    struct nests nests = expression("fib");
    message_number(&m, NFTA_FIB_DREG, NFT_REG_1);
    message_number(&m, NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
    message_number(&m, NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
    end_expression(nests);
    uint32_t local = RTN_LOCAL;
    compare(EQUAL, &local, sizeof local);
    verdict(NFT_JUMP, to);
}

#define RULE(chain_name, ...)    \
    do {                         \
        rule(table, chain_name); \
        __VA_ARGS__;             \
        end_rule();              \
    } while (0)

void rules_network(int nft, const char *table, const char *bridge, uint32_t subnet) {
    const uint32_t in = NFT_META_IIFNAME, out = NFT_META_OIFNAME, source = 12, destination = 16;
    const uint32_t loopback = htonl(0x7f000000), eight = htonl(0xff000000), sixteen = htonl(0xffff0000);
    begin();
    push(NFT_MSG_NEWTABLE, NLM_F_CREATE, table);
    message_end(&m);
    map(table, "ports", 1, 7 << 12 | 12 << 6 | 13, 12);
    map(table, "ports_any", 2, 12 << 6 | 13, 8);
    chain(table, "raw_pre", "filter", NF_INET_PRE_ROUTING, -300, NF_ACCEPT);
    chain(table, "publish", NULL, 0, 0, 0);
    chain(table, "pre", "nat", NF_INET_PRE_ROUTING, -100, NF_ACCEPT);
    chain(table, "out", "nat", NF_INET_LOCAL_OUT, -100, NF_ACCEPT);
    chain(table, "post", "nat", NF_INET_POST_ROUTING, 100, NF_ACCEPT);
    chain(table, "forward", "filter", NF_INET_FORWARD, 0, NF_ACCEPT);
    push(NFT_MSG_DELRULE, 0, table);
    message_end(&m);
    RULE("raw_pre", interface(in, bridge, EQUAL), address(destination, loopback, eight), verdict(NF_DROP, NULL));
    RULE("raw_pre", interface(in, "lo", DIFFERENT), address(destination, loopback, eight), verdict(NF_DROP, NULL));
    RULE("raw_pre", interface(in, bridge, DIFFERENT), address(destination, subnet, sixteen), verdict(NF_DROP, NULL));
    RULE("publish", dnat_by("ports", 1));
    RULE("publish", dnat_by("ports_any", 0));
    RULE("pre", jump_if_local("publish"));
    RULE("out", jump_if_local("publish"));
    RULE("post", interface(out, bridge, EQUAL), address(source, loopback, eight), masquerade());
    RULE("post", interface(out, bridge, EQUAL), address(source, subnet, sixteen),
         connection(NFT_CT_STATUS, IPS_DST_NAT), masquerade());
    RULE("post", interface(out, bridge, DIFFERENT), address(source, subnet, sixteen), masquerade());
    RULE("forward", interface(out, bridge, EQUAL), interface(in, bridge, EQUAL), verdict(NF_ACCEPT, NULL));
    RULE("forward", interface(out, bridge, EQUAL), connection(NFT_CT_STATE, 2 | 4), verdict(NF_ACCEPT, NULL));
    RULE("forward", interface(out, bridge, EQUAL), connection(NFT_CT_STATUS, IPS_DST_NAT), verdict(NF_ACCEPT, NULL));
    RULE("forward", interface(out, bridge, EQUAL), verdict(NF_DROP, NULL));
    commit(nft, "rules of the network");
}

void rules_guard(int nft, const char *table) {
    begin();
    push(NFT_MSG_NEWTABLE, NLM_F_CREATE, table);
    message_end(&m);
    chain(table, "forward", "filter", NF_INET_FORWARD, 0, NF_DROP);
    push(NFT_MSG_DELRULE, 0, table);
    message_end(&m);
    RULE("forward", interface_prefix(NFT_META_IIFNAME, "fb-"), verdict(NF_ACCEPT, NULL));
    RULE("forward", interface_prefix(NFT_META_OIFNAME, "fb-"), verdict(NF_ACCEPT, NULL));
    commit(nft, "rules of the guard");
}

static void redirect(const char *table, uint32_t server, uint8_t protocol, uint16_t to) {
    uint16_t domain = htons(53);
    rule(table, "out");
    address(16, server, UINT32_MAX);
    meta(NFT_META_L4PROTO, NFT_REG_1);
    compare(EQUAL, &protocol, sizeof protocol);
    payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, NFT_REG_1);
    compare(EQUAL, &domain, sizeof domain);
    immediate(NFT_REG32_08, &server, sizeof server);
    immediate(NFT_REG32_09, &to, sizeof to);
    nat();
    end_rule();
}

void rules_dns(int nft, uint32_t server, uint16_t udp, uint16_t tcp) {
    const char *table = "floor-dns";
    begin();
    push(NFT_MSG_NEWTABLE, NLM_F_CREATE, table);
    message_end(&m);
    chain(table, "out", "nat", NF_INET_LOCAL_OUT, -100, NF_ACCEPT);
    push(NFT_MSG_DELRULE, 0, table);
    message_end(&m);
    redirect(table, server, IPPROTO_UDP, udp);
    redirect(table, server, IPPROTO_TCP, tcp);
    commit(nft, "rules of DNS");
}

/* Adds or takes a published TCP port on all addresses; numbers are in network order. */
void rules_port(int nft, const char *table, uint16_t port, uint32_t to, uint16_t target, int add) {
    uint8_t key[8] = {IPPROTO_TCP}, data[8] = {0};
    memcpy(key + 4, &port, sizeof port);
    memcpy(data, &to, sizeof to);
    memcpy(data + 4, &target, sizeof target);
    begin();
    push(add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM, add ? NLM_F_CREATE : 0, table);
    message_text(&m, NFTA_SET_ELEM_LIST_SET, "ports_any");
    size_t list = message_nest(&m, NFTA_SET_ELEM_LIST_ELEMENTS);
    size_t element = message_nest(&m, NFTA_LIST_ELEM);
    value(NFTA_SET_ELEM_KEY, key, sizeof key);
    if (add) value(NFTA_SET_ELEM_DATA, data, sizeof data);
    message_close(&m, element);
    message_close(&m, list);
    message_end(&m);
    commit(nft, "published port");
}

void rules_delete(int nft, const char *table) {
    begin();
    push(NFT_MSG_DELTABLE, 0, table);
    message_end(&m);
    commit(nft, "delete table");
}
