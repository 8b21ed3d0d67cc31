// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * TCP and UDP splices in programs of the traffic control hook: they decide by
 * kernel/core, as the module does.
 *
 * ist_splice is attached where packets come in (clsact, direct action).
 * ist_command and ist_end_many are attached nowhere: user space runs them
 * (BPF_PROG_RUN).
 */
#include "cell.h"
#include "icmp.h"

/* The packet belongs to a cell again; no verdict of the hook. */
#define IST_RENEWED	(-2)

static __noinline int ist_splice_tcp(struct __sk_buff *skb,
				     struct ist_scratch *scratch,
				     const struct ist_bpf_flow *flow,
				     struct ist_bpf_splice *splice)
{
	struct ist_packet *packet = &scratch->packet;
	__u32 side = flow->side & 1;
	struct ist_verdict verdict;
	struct ist_segment segment;
	bool dead, ended = false, again = false;
	__u64 now;

	if (!ist_parse_segment(&segment, packet, skb))
		return ist_drop(IST_REASON_MALFORMED);
	if (ist_is_plain(splice->tcp.state, segment.flags)) {
		ist_end_heard(&splice->tcp.end[side], &segment);
		return ist_output(skb, scratch, flow, splice, segment.payload);
	}
	if (segment.flags & IST_TCP_SYN &&
	    !ist_parse_offer(scratch, &segment, packet, skb))
		return ist_drop(IST_REASON_MALFORMED);
	now = ist_now() / 1000000;

	bpf_spin_lock(&splice->lock);
	dead = splice->dead;
	verdict = ist_verdict(IST_DROP, IST_REASON_RELEASED, false);
	if (!dead)
		verdict = ist_connection_segment(&splice->tcp, side, &segment,
						 &scratch->offer, now);
	if (verdict.changed) {
		bool over = splice->tcp.state == IST_STATE_TIME_WAIT ||
			    splice->tcp.state == IST_STATE_CLOSED;

		ended = over && !splice->over;
		again = !over && splice->over;
		splice->over = over;
		if (ended)
			splice->reason = verdict.reason;
		if (again)
			splice->reason = IST_REASON_NONE;
	}
	if (verdict.action == IST_RENEW) {
		ended = !splice->over;
		if (ended)
			splice->reason = verdict.reason;
		splice->over = true;
		splice->dead = true;
		splice->tcp.state = IST_STATE_CLOSED;
	}
	bpf_spin_unlock(&splice->lock);

	if (ended) {
		ist_count_live(splice->alloc, IPPROTO_TCP, -1);
		ist_count_ended(splice->reason);
	}
	if (again)
		ist_count_live(splice->alloc, IPPROTO_TCP, 1);
	if (verdict.changed || (verdict.action == IST_RENEW && ended))
		ist_tell_splice(&scratch->event, flow->splice, splice, 0);

	switch (verdict.action) {
	case IST_FORWARD:
		if (verdict.reason == IST_REASON_WINDOW)
			ist_count_dropped(IST_REASON_WINDOW);
		return ist_output(skb, scratch, flow, splice, segment.payload);
	case IST_ANSWER:
		ist_answer(skb, scratch, splice, side);
		return TC_ACT_SHOT;
	case IST_RENEW:
		ist_splice_unlist(scratch, flow->splice, splice);
		return IST_RENEWED;
	default:
		return ist_drop(verdict.reason);
	}
}

static __always_inline int ist_at_cell(struct __sk_buff *skb,
				       struct ist_packet *packet)
{
	struct ist_bpf_cell_key key = {};
	int verdict = ist_cell_input(skb, packet, &key);

	return verdict == IST_TO_ALL ? ist_fanout_send(skb, packet, &key) :
				       verdict;
}

SEC("tc")
int ist_splice(struct __sk_buff *skb)
{
	struct ist_bpf_cell_key key = {};
	struct ist_scratch *scratch = ist_scratch();
	struct ist_bpf_flow *found, flow;
	struct ist_bpf_splice *splice;
	struct ist_packet *packet;
	__u32 payload;
	int verdict;
	__u64 id;

	if (!scratch)
		return IST_PASS;
	packet = &scratch->packet;
	if (!ist_parse(packet, skb)) {
		if (packet->tuple.proto == (packet->v6 ? IST_PROTO_ICMPV6 :
							 IST_PROTO_ICMP) &&
		    !packet->fragment)
			return ist_icmp_input(skb, scratch, packet);
		return IST_PASS;
	}
	if (packet->fragment == IST_LATER_FRAGMENT) {
		ist_fragment_key(&scratch->fragment, packet);
		found = bpf_map_lookup_elem(&ist_fragments, &scratch->fragment);
		if (!found)
			return IST_PASS;
		if (found->side == IST_SIDE_FANOUT) {
			key.alloc = found->splice;
			key.cell = found->cell;
			return ist_fanout_send(skb, packet, &key);
		}
	} else {
		found = bpf_map_lookup_elem(&ist_flows, &packet->tuple);
		if (!found)
			return ist_at_cell(skb, packet);
	}
	flow = *found;
	id = flow.splice;
	splice = bpf_map_lookup_elem(&ist_splices, &id);
	if (!splice)
		return ist_drop(IST_REASON_RELEASED);
	if (packet->tuple.proto == IPPROTO_TCP) {
		verdict = ist_splice_tcp(skb, scratch, &flow, splice);
		return verdict == IST_RENEWED ? ist_at_cell(skb, packet) :
						verdict;
	}
	if (splice->dead)
		return ist_drop(IST_REASON_RELEASED);
	payload = packet->length;
	if (packet->fragment != IST_LATER_FRAGMENT) {
		if (payload < 8)
			return ist_drop(IST_REASON_MALFORMED);
		payload -= 8;
	}
	ist_fragments_follow(scratch, packet, &flow);
	return ist_output(skb, scratch, &flow, splice, payload);
}

static __noinline int ist_end_splice(__u64 id, enum ist_reason reason)
{
	struct ist_bpf_cell_key key = {};
	struct ist_scratch *scratch = ist_scratch();
	struct ist_bpf_splice *splice;
	struct ist_bpf_cell *cell;
	bool ended;

	splice = bpf_map_lookup_elem(&ist_splices, &id);
	if (!splice || !scratch)
		return 0;
	bpf_spin_lock(&splice->lock);
	ended = !splice->over;
	if (ended) {
		splice->reason = reason;
		splice->tcp.state = IST_STATE_CLOSED;
	}
	splice->over = true;
	splice->dead = true;
	bpf_spin_unlock(&splice->lock);
	if (ended) {
		ist_count_live(splice->alloc, splice->proto, -1);
		ist_count_ended(reason);
	}
	if (splice->mode == IST_MODE_FANOUT)
		ist_fanout_leave(id, splice);
	if (splice->proto == IPPROTO_UDP) {
		key.alloc = splice->alloc;
		key.cell = splice->cell;
		cell = bpf_map_lookup_elem(&ist_cells, &key);
		if (cell) {
			bpf_spin_lock(&cell->lock);
			if (cell->udp == id)
				cell->udp = 0;
			bpf_spin_unlock(&cell->lock);
		}
	}
	ist_splice_unlist(scratch, id, splice);
	return 0;
}

static __always_inline int ist_end_half(const struct ist_bpf_command *command,
					__u32 proto, __u32 side, __u64 before)
{
	struct ist_bpf_cell_key key = {
		.alloc = command->alloc,
		.cell = command->cell,
	};
	struct ist_scratch *scratch = ist_scratch();
	struct ist_bpf_waiting *waiting;
	int answer = IST_BPF_NONE;
	struct ist_bpf_cell *cell;
	struct ist_tuple tuple;

	cell = bpf_map_lookup_elem(&ist_cells, &key);
	if (!cell || !scratch)
		return IST_BPF_NONE;
	waiting = &cell->waiting[proto & 1][side & 1];
	bpf_spin_lock(&cell->lock);
	if (waiting->half.waiting) {
		answer = waiting->heard > before ? IST_BPF_LATER :
						   IST_BPF_ENDED;
		if (answer == IST_BPF_ENDED)
			waiting->half.waiting = false;
	}
	tuple = waiting->half.tuple;
	bpf_spin_unlock(&cell->lock);
	if (answer == IST_BPF_ENDED) {
		ist_count_halves(-1);
		ist_count_ended(command->reason);
		ist_tell_half(&scratch->event, &key, &tuple, side,
			      command->reason);
	}
	return answer;
}

static __always_inline int ist_end_cell(const struct ist_bpf_command *command)
{
	struct ist_bpf_cell_key key = {
		.alloc = command->alloc,
		.cell = command->cell,
	};
	struct ist_bpf_cell *cell = bpf_map_lookup_elem(&ist_cells, &key);
	int i;

	if (!cell)
		return IST_BPF_NONE;
	bpf_spin_lock(&cell->lock);
	cell->dead = 1;
	bpf_spin_unlock(&cell->lock);
	for (i = 0; i < IST_PROTOS * IST_SIDES; i++)
		ist_end_half(command, i >> 1, i & 1, ~0ULL);
	return IST_BPF_ENDED;
}

SEC("tc")
int ist_command(struct __sk_buff *skb)
{
	struct ist_scratch *scratch = ist_scratch();
	struct ist_bpf_command *command;

	if (!scratch)
		return IST_BPF_NONE;
	command = &scratch->command;
	if (bpf_skb_load_bytes(skb, 0, command, sizeof(*command)))
		return IST_BPF_NONE;
	switch (command->kind) {
	case IST_BPF_END_HALF:
		return ist_end_half(command, command->proto, command->side,
				    command->before);
	case IST_BPF_END_CELL:
		return ist_end_cell(command);
	default:
		return IST_BPF_NONE;
	}
}

/* The splices of which ist_end_next() ends one after the other. */
struct ist_ending {
	struct __sk_buff *skb;
	__u32 reason;
};

static long ist_end_next(__u64 index, void *data)
{
	struct ist_ending *ending = data;
	__u64 id;

	if (bpf_skb_load_bytes(ending->skb,
			       sizeof(struct ist_bpf_end_many) +
				       sizeof(id) * index,
			       &id, sizeof(id)))
		return 1;
	ist_end_splice(id, ending->reason);
	return 0;
}

SEC("tc")
int ist_end_many(struct __sk_buff *skb)
{
	struct ist_ending ending = { .skb = skb };
	struct ist_bpf_end_many command;

	if (bpf_skb_load_bytes(skb, 0, &command, sizeof(command)) ||
	    command.count > IST_END_MOST)
		return IST_BPF_NONE;
	ending.reason = command.reason;
	bpf_loop(command.count, ist_end_next, &ending, 0);
	return IST_BPF_ENDED;
}

char ist_license[] SEC("license") = "Dual BSD/GPL";
