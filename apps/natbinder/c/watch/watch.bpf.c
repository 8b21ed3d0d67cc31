// SPDX-License-Identifier: GPL-2.0-only
/*
 * Watches bind() of all programs of a control group: refuses ports that are
 * known to be another host's, and tells of the others. It cannot wait for an
 * answer: no BPF program may.
 *
 * A socket that asked for a port of interest has an entry in `sockets`, from
 * before it has the port until it is gone.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "watch.h"

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define TCP_CLOSE 7
#define TCP_LISTEN 10
#define SOCK_BINDPORT_LOCK 8
#define EADDRINUSE 98

#define FIRST_UNPRIVILEGED_PORT 1024
/* The kernel allows 32 levels of PID namespaces; so deep are groups seldom. */
#define MOST_LEVELS 32

/* Of the kernel's own types what is read here; where it is libbpf finds out. */
#define KERNEL_TYPE __attribute__((preserve_access_index))

struct possible_net {
	struct net *net;
} KERNEL_TYPE;

struct net {
	__u64 net_cookie;
} KERNEL_TYPE;

typedef struct possible_net possible_net_t;

struct in6_bits {
	__u32 words[4];
};

struct sock_common {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned char skc_ipv6only : 1;
	int skc_bound_dev_if;
	__u32 skc_rcv_saddr;
	__u16 skc_num;
	possible_net_t skc_net;
	struct in6_bits skc_v6_rcv_saddr;
} KERNEL_TYPE;

typedef struct {
	__u32 val;
} kuid_t;

struct kernfs_node {
	__u64 id;
} KERNEL_TYPE;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
} KERNEL_TYPE;

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
} KERNEL_TYPE;

struct sock_cgroup_data {
	struct cgroup *cgroup;
} KERNEL_TYPE;

struct sock {
	struct sock_common __sk_common;
	struct sock_cgroup_data sk_cgrp_data;
	__u8 sk_userlocks : 4;
	__u16 sk_type;
	__u16 sk_protocol;
	kuid_t sk_uid;
} KERNEL_TYPE;

struct socket {
	struct sock *sk;
} KERNEL_TYPE;

struct ns_common {
	unsigned int inum;
} KERNEL_TYPE;

struct pid_namespace {
	struct ns_common ns;
} KERNEL_TYPE;

struct upid {
	int nr;
	struct pid_namespace *ns;
} KERNEL_TYPE;

struct pid {
	unsigned int level;
	struct upid numbers[1];
} KERNEL_TYPE;

struct task_struct {
	struct task_struct *group_leader;
	struct pid *thread_pid;
	char comm[16];
} KERNEL_TYPE;

struct bpf_iter_meta {
	struct seq_file *seq;
} KERNEL_TYPE;

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
} KERNEL_TYPE;

/* The network that is watched, by its cookie. */
const volatile __u64 network;
/* The control group, by its inode. */
const volatile __u64 group;
/* The PID namespace of the daemon, by its inode, and its number there. */
const volatile __u32 pid_space;
const volatile __u32 daemon_pid;
const volatile bool dual_stack;
const volatile __u32 rule_count;
const volatile struct watch_rule rules[WATCH_MOST_RULES];

/* Events that there was no room for. */
__u64 missed;

struct interest {
	/* The port that was asked for. */
	__u16 asked;
	bool is_told;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct interest);
} sockets SEC(".maps");

/* Ports that other hosts have: protocol << 16 | port. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, __u32);
	__type(value, __u8);
} held SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} events SEC(".maps");

static __always_inline __u32 pid_of(struct task_struct *leader)
{
	struct pid *pid = BPF_CORE_READ(leader, thread_pid);
	const char *numbers = (const char *)pid +
			      bpf_core_field_offset(struct pid, numbers);
	__u32 level = BPF_CORE_READ(pid, level);

	for (__u32 i = 0; i < MOST_LEVELS; i++) {
		struct upid *upid = (struct upid *)(numbers +
			i * bpf_core_type_size(struct upid));

		if (i > level)
			break;
		if (BPF_CORE_READ(upid, ns, ns.inum) == pid_space)
			return BPF_CORE_READ(upid, nr);
	}
	return 0;
}

static __always_inline void describe_process(struct watch_event *event,
					     struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	event->pid = pid_of(leader);
	bpf_core_read(event->program, sizeof(event->program), &leader->comm);
}

/* The rest is looked at where it is about to matter. */
static __always_inline bool is_any_v6(__u32 a, __u32 b, __u32 c, __u32 d)
{
	return !a && !b && !d && (!c || c == bpf_htonl(0xffff));
}

static __always_inline bool is_refused(const struct watch_event *event)
{
	__u32 key = (__u32)event->protocol << 16 | event->port;

	if (!bpf_map_lookup_elem(&held, &key))
		return false;
	for (__u32 i = 0; i < WATCH_MOST_RULES; i++) {
		const volatile struct watch_rule *rule = &rules[i];

		if (i >= rule_count)
			break;
		if ((rule->any_program ||
		     (rule->program[0] == event->program[0] &&
		      rule->program[1] == event->program[1])) &&
		    (rule->any_uid || rule->uid == event->uid))
			return rule->map;
	}
	return true;
}

static __always_inline bool tell(const struct watch_event *event)
{
	if (!bpf_ringbuf_output(&events, (void *)event, sizeof(*event), 0))
		return true;
	__sync_fetch_and_add(&missed, 1);
	return false;
}

static __always_inline void before_bind(struct bpf_sock_addr *ctx,
					bool is_any)
{
	__u16 port = bpf_ntohs((__u16)ctx->user_port);
	bool is_asked = is_any && port >= FIRST_UNPRIVILEGED_PORT;
	struct interest *interest;

	if (bpf_get_netns_cookie(ctx) != network || !ctx->sk)
		return;
	interest = bpf_sk_storage_get(&sockets, ctx->sk, NULL,
				      is_asked ? BPF_SK_STORAGE_GET_F_CREATE :
						 0);
	if (interest && !interest->is_told)
		interest->asked = is_asked ? port : 0;
}

SEC("cgroup/bind4")
int before_bind4(struct bpf_sock_addr *ctx)
{
	before_bind(ctx, ctx->user_ip4 == 0);
	return 1;
}

SEC("cgroup/bind6")
int before_bind6(struct bpf_sock_addr *ctx)
{
	before_bind(ctx, is_any_v6(ctx->user_ip6[0], ctx->user_ip6[1],
				   ctx->user_ip6[2], ctx->user_ip6[3]));
	return 1;
}

static __always_inline int after_bind(struct bpf_sock *ctx, __u8 family,
				      bool is_any)
{
	struct interest *interest = bpf_sk_storage_get(&sockets, ctx, NULL, 0);
	struct sock *sock = (struct sock *)ctx;
	struct watch_event event = { .what = WATCH_BOUND, .family = family };

	/* Another program may have led it elsewhere. */
	if (!interest || interest->is_told ||
	    interest->asked != ctx->src_port || !is_any)
		return 1;
	if (BPF_CORE_READ(sock, __sk_common.skc_bound_dev_if))
		return 1;
	if (family == 6)
		event.v6only = BPF_CORE_READ_BITFIELD_PROBED(
			sock, __sk_common.skc_ipv6only);
	if (family == 6 && (event.v6only || !dual_stack))
		return 1;
	event.protocol = (__u8)ctx->protocol;
	event.port = (__u16)ctx->src_port;
	event.uid = (__u32)bpf_get_current_uid_gid();
	event.cookie = bpf_get_socket_cookie(ctx);
	describe_process(&event, (struct task_struct *)bpf_get_current_task());
	/* The daemon's own sockets search for gateways. */
	if (event.pid == daemon_pid)
		return 1;
	if (is_refused(&event)) {
		event.what = WATCH_REFUSED;
		tell(&event);
		bpf_set_retval(-EADDRINUSE);
		return 0;
	}
	interest->is_told = tell(&event);
	return 1;
}

SEC("cgroup/post_bind4")
int after_bind4(struct bpf_sock *ctx)
{
	return after_bind(ctx, 4, ctx->src_ip4 == 0);
}

SEC("cgroup/post_bind6")
int after_bind6(struct bpf_sock *ctx)
{
	return after_bind(ctx, 6,
			  is_any_v6(ctx->src_ip6[0], ctx->src_ip6[1],
				    ctx->src_ip6[2], ctx->src_ip6[3]));
}

SEC("cgroup/sock_release")
int at_close(struct bpf_sock *ctx)
{
	struct interest *interest = bpf_sk_storage_get(&sockets, ctx, NULL, 0);
	struct watch_event event = { .what = WATCH_CLOSED };

	if (interest && interest->is_told) {
		event.cookie = bpf_get_socket_cookie(ctx);
		tell(&event);
	}
	return 1;
}

static __always_inline bool is_in_group(struct sock *sock)
{
	struct cgroup *one = BPF_CORE_READ(sock, sk_cgrp_data.cgroup);

	for (int i = 0; i < MOST_LEVELS && one; i++) {
		if (BPF_CORE_READ(one, kn, id) == group)
			return true;
		one = BPF_CORE_READ(one, self.parent, cgroup);
	}
	return false;
}

/* Every open file of every process: among them the sockets from before. */
SEC("iter/task_file")
int each_file(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct watch_event event = { .what = WATCH_FOUND };
	struct interest *interest;
	struct socket *socket;
	struct in6_bits any;
	struct sock *sock;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sock = socket->sk;
	if (!sock)
		return 0;
	event.family = sock->__sk_common.skc_family == AF_INET ? 4 : 6;
	if (event.family == 6 && sock->__sk_common.skc_family != AF_INET6)
		return 0;
	if (BPF_CORE_READ(sock, __sk_common.skc_net.net, net_cookie) != network)
		return 0;
	/* Neither what listens to one only, nor what is connected. */
	if (sock->__sk_common.skc_state != TCP_CLOSE &&
	    sock->__sk_common.skc_state != TCP_LISTEN)
		return 0;
	if (!(sock->sk_type == SOCK_STREAM &&
	      sock->sk_protocol == IPPROTO_TCP) &&
	    !(sock->sk_type == SOCK_DGRAM && sock->sk_protocol == IPPROTO_UDP))
		return 0;
	event.port = sock->__sk_common.skc_num;
	if (event.port < FIRST_UNPRIVILEGED_PORT ||
	    sock->__sk_common.skc_bound_dev_if)
		return 0;
	/* The kernel did not choose the port. */
	if (!(BPF_CORE_READ_BITFIELD_PROBED(sock, sk_userlocks) &
	      SOCK_BINDPORT_LOCK))
		return 0;
	if (event.family == 4) {
		if (sock->__sk_common.skc_rcv_saddr)
			return 0;
	} else {
		bpf_core_read(&any, sizeof(any),
			      &sock->__sk_common.skc_v6_rcv_saddr);
		event.v6only = BPF_CORE_READ_BITFIELD_PROBED(
			sock, __sk_common.skc_ipv6only);
		if (!is_any_v6(any.words[0], any.words[1], any.words[2],
			       any.words[3]) ||
		    event.v6only || !dual_stack)
			return 0;
	}
	if (!is_in_group(sock))
		return 0;
	interest = bpf_sk_storage_get(&sockets, sock, NULL,
				      BPF_SK_STORAGE_GET_F_CREATE);
	/* Several processes may have it, or it has been told of at bind(). */
	if (!interest || interest->is_told)
		return 0;
	event.protocol = (__u8)sock->sk_protocol;
	event.uid = sock->sk_uid.val;
	event.cookie = bpf_get_socket_cookie(sock);
	describe_process(&event, task);
	if (event.pid == daemon_pid)
		return 0;
	interest->asked = event.port;
	interest->is_told = true;
	bpf_seq_write(ctx->meta->seq, &event, sizeof(event));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
