// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Every function of the core in one program that the verifier takes: it is
 * loaded by a test and never attached. State is in a map, since a BPF program's
 * stack is small.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../core.h"

struct scratch {
	struct ist_half half[2];
	struct ist_connection connection;
	struct ist_offer offer;
	struct ist_segment segment;
	struct ist_tuple tuple;
	struct ist_prefix prefix;
	struct ist_rewrite plan;
	__u8 options[IST_TCP_OPTIONS_BUFFER];
	__u8 header[IST_SYN_ACK_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} memory SEC(".maps");

SEC("tc")
int core(struct __sk_buff *skb)
{
	__u32 zero = 0, side = skb->mark & 1;
	struct ist_verdict verdict;
	struct scratch *s;

	s = bpf_map_lookup_elem(&memory, &zero);
	if (!s)
		return 0;
	if (bpf_skb_load_bytes(skb, 34, s->header, IST_TCP_HEADER_BYTES) ||
	    bpf_skb_load_bytes(skb, 54, s->options, 20))
		return 0;
	if (!ist_segment_parse(&s->segment, s->header, skb->len))
		return 0;
	ist_offer_parse(&s->offer, s->options, s->segment.options,
			s->segment.flags);
	ist_addr_set4(&s->tuple.remote, skb->hash);
	ist_prefix_set(&s->prefix, &s->tuple.remote, skb->priority & 127);
	if (!ist_prefix_matches(&s->prefix, &s->tuple.remote))
		return 0;
	if (skb->tc_classid) {
		ist_half_syn(&s->half[0], &s->tuple, &s->segment, &s->offer);
		ist_half_syn(&s->half[1], &s->tuple, &s->segment, &s->offer);
		ist_connection_open(&s->connection, &s->half[0], &s->half[1]);
		ist_rewrite_plan(&s->plan, &s->half[0].tuple,
				 &s->half[1].tuple);
		return ist_check_update((__u16)skb->hash,
					ist_rewrite_delta(&s->plan));
	}
	verdict = ist_connection_segment(&s->connection, side, &s->segment,
					 &s->offer, bpf_ktime_get_ns());
	if (verdict.action == IST_ANSWER)
		ist_connection_syn_ack(&s->connection, side, IST_MSS_DEFAULT4,
				       1460, s->header);
	else if (verdict.action == IST_RENEW)
		ist_connection_rst(&s->connection, side, s->header);
	return verdict.action;
}

char core_license[] SEC("license") = "Dual BSD/GPL";
