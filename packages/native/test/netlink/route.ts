/** Numbers of linux/netlink.h and linux/rtnetlink.h. */
export const NETLINK_ROUTE = 0;
export const RTM_NEWLINK = 16;
export const RTM_GETLINK = 18;
export const RTMGRP_LINK = 1;
