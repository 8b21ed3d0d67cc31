// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* A bind that the kernel has done: whether it is reported, and how it is undone. */
#include <linux/sched.h>
#include <net/inet_sock.h>
#include <net/ipv6.h>
#include <net/mptcp.h>

#include "natpass.h"

/* IPPROTO_TCP, IPPROTO_UDP, or zero for anything else. */
static u8 np_protocol(const struct sock *sk)
{
	if (sk->sk_type == SOCK_STREAM && sk->sk_protocol == IPPROTO_TCP)
		return IPPROTO_TCP;
	if (sk->sk_type == SOCK_DGRAM && sk->sk_protocol == IPPROTO_UDP)
		return IPPROTO_UDP;
	return 0;
}

/*
 * The kernel's own sockets are none of ours, but for the one below a program's
 * socket of MPTCP.
 */
static bool np_of_kernel(const struct sock *sk)
{
	if (current->flags & PF_KTHREAD)
		return true;
	return sk->sk_kern_sock &&
	       !(sk->sk_protocol == IPPROTO_TCP && sk_is_mptcp(sk));
}

static bool np_wildcard4(struct np_request *request,
			 const struct sockaddr_in *sin)
{
	request->port = ntohs(sin->sin_port);
	memcpy(request->address, &sin->sin_addr, 4);
	return sin->sin_addr.s_addr == htonl(INADDR_ANY);
}

static bool np_wildcard6(struct np_request *request, const struct sock *sk,
			 const struct sockaddr_in6 *sin6)
{
	const struct in6_addr *addr = &sin6->sin6_addr;

	request->port = ntohs(sin6->sin6_port);
	memcpy(request->address, addr, 16);
	if (ipv6_only_sock(sk))
		return false;
	return ipv6_addr_any(addr) ||
	       (ipv6_addr_v4mapped(addr) && !addr->s6_addr32[3]);
}

static bool np_request_read(struct np_request *request, const struct sock *sk,
			    const void *address)
{
	request->protocol = np_protocol(sk);
	if (!request->protocol || np_of_kernel(sk))
		return false;
	request->family = sk->sk_family;
	switch (sk->sk_family) {
	case AF_INET:
		if (!np_wildcard4(request, address))
			return false;
		break;
	case AF_INET6:
		if (!np_wildcard6(request, sk, address))
			return false;
		break;
	default:
		return false;
	}
	return request->port >= NAT_PASS_FIRST_PORT;
}

/*
 * What inet_bind() itself does where a program of BPF refuses a bind that is
 * done already. Another thread may have used the socket meanwhile: then it
 * stays as it is.
 */
static bool np_undo(struct sock *sk, u16 port)
{
	struct inet_sock *inet = inet_sk(sk);
	bool undone = false;

	lock_sock(sk);
	if (sk->sk_state == TCP_CLOSE && inet->inet_num == port) {
		sk->sk_prot->put_port(sk);
		inet->inet_sport = 0;
		inet->inet_rcv_saddr = 0;
		inet->inet_saddr = 0;
		if (sk->sk_family == AF_INET6) {
			sk->sk_v6_rcv_saddr = in6addr_any;
			inet6_sk(sk)->saddr = in6addr_any;
		}
		sk->sk_userlocks &= ~(SOCK_BINDADDR_LOCK | SOCK_BINDPORT_LOCK);
		sk_dst_reset(sk);
		undone = true;
	}
	release_sock(sk);
	return undone;
}

/**
 * np_bound() - a bind was done: report it, and wait for the answer
 * @sk: the socket, which its caller holds and has not locked
 * @address: that was asked for, of the socket's family
 *
 * Return: what the caller of bind() is to see.
 */
int np_bound(struct sock *sk, const void *address)
{
	struct np_net *in = np_net(sock_net(sk));
	struct np_request request;
	bool asks;

	if (!rcu_access_pointer(in->daemon))
		return 0;
	memset(&request, 0, sizeof(request));
	if (!np_request_read(&request, sk, address))
		return 0;
	rcu_read_lock();
	asks = np_daemon_asks(rcu_dereference(in->daemon), &request);
	rcu_read_unlock();
	if (!asks || !np_port_take(in, sk, &request))
		return 0;
	return np_undo(sk, request.port) ? -EADDRINUSE : 0;
}
