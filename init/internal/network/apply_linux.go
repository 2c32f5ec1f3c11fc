package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// firstMetric is that of the routes by the link with index 0; the index is added, so that of two default routes the one by the
// link that was there first is taken, whichever lease comes first.
const firstMetric = 1000

// Limits of what the kernel takes for a life time, in seconds.
const maxLife = 1<<32 - 2

// setLink prepares a link and sets it up.
func setLink(link netlink.Link, i Interface) error {
	var errs []error
	if i.MAC != nil && link.Attrs().HardwareAddr.String() != i.MAC.String() {
		errs = append(errs, wrap("set the MAC address", netlink.LinkSetHardwareAddr(link, i.MAC)))
	}
	if i.MTU != 0 && link.Attrs().MTU != i.MTU {
		errs = append(errs, wrap("set the MTU", netlink.LinkSetMTU(link, i.MTU)))
	}
	return errors.Join(append(errs, wrap("set up", netlink.LinkSetUp(link)))...)
}

// setStatic gives a link its static addresses and routes.
func setStatic(link netlink.Link, i Interface) error {
	var errs []error
	for _, p := range i.Addresses {
		errs = append(errs, wrap("address "+p.String(), netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(p)})))
	}
	for _, gateway := range i.Gateways {
		bits := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if gateway.Is6() {
			bits = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		r := kernelRoute(link, route{bits, gateway}, i.Addresses, netip.Addr{}, unix.RTPROT_STATIC)
		errs = append(errs, wrap("gateway "+gateway.String(), netlink.RouteReplace(r)))
	}
	return errors.Join(errs...)
}

// changeLease puts a lease in the place of another one; nil is none. An address that is not used any more goes first: the kernel
// would take a second one of the same network away with it.
func changeLease(link netlink.Link, i Interface, old, l *lease) error {
	var errs []error
	if old != nil && (l == nil || old.prefix != l.prefix) {
		errs = append(errs, unsetLease(link, *old))
	} else if old != nil {
		errs = append(errs, dropRoutes(link, *old, *l))
	}
	if l != nil {
		errs = append(errs, setLease(link, i, *l))
	}
	return errors.Join(errs...)
}

// dropRoutes removes the routes that a lease has and its successor, with the same address, has not.
func dropRoutes(link netlink.Link, old, l lease) error {
	var errs []error
	for _, r := range old.routes {
		if slices.Contains(l.routes, r) {
			continue
		}
		err := netlink.RouteDel(leaseRoute(link, r, old))
		if !errors.Is(err, unix.ESRCH) { // somebody was faster
			errs = append(errs, wrap("remove the route to "+r.dest.String(), err))
		}
	}
	return errors.Join(errs...)
}

// setLease gives a link what a lease says. The kernel itself takes the address away when the lease has ended, and the routes
// with it, even if nobody is left to do so. What the Config says of the MTU counts for more than what a server does.
func setLease(link netlink.Link, i Interface, l lease) error {
	valid, preferred := lifetime(l.expire), lifetime(l.rebind)
	var errs []error
	if l.mtu != 0 && i.MTU == 0 && link.Attrs().MTU != l.mtu {
		errs = append(errs, wrap("set the MTU", netlink.LinkSetMTU(link, l.mtu)))
	}
	errs = append(errs, wrap("address "+l.prefix.String(),
		netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(l.prefix), ValidLft: valid, PreferedLft: preferred})))
	for _, r := range l.routes {
		errs = append(errs, wrap("route to "+r.dest.String(),
			netlink.RouteReplace(leaseRoute(link, r, l))))
	}
	return errors.Join(errs...)
}

// leaseRoute returns a route of a lease for the kernel.
func leaseRoute(link netlink.Link, r route, l lease) *netlink.Route {
	return kernelRoute(link, r, []netip.Prefix{l.prefix}, l.prefix.Addr(), unix.RTPROT_DHCP)
}

// unsetLease takes a lease from a link. The kernel removes the routes that begin at the address.
func unsetLease(link netlink.Link, l lease) error {
	err := netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(l.prefix)})
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil // the kernel was faster
	}
	return wrap("remove "+l.prefix.String(), err)
}

// kernelRoute returns r for the kernel. A gateway outside of the networks of the link is taken to be on it, which is how clouds
// give out single addresses.
func kernelRoute(link netlink.Link, r route, networks []netip.Prefix, source netip.Addr, protocol int) *netlink.Route {
	k := &netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: ipNet(r.dest), Protocol: netlink.RouteProtocol(protocol),
		Priority: firstMetric + link.Attrs().Index,
	}
	if source.IsValid() {
		k.Src = source.AsSlice()
	}
	if !r.gateway.IsValid() {
		k.Scope = netlink.SCOPE_LINK
		return k
	}
	k.Gw = r.gateway.AsSlice()
	within := false
	for _, n := range networks {
		within = within || n.Contains(r.gateway)
	}
	if !within {
		k.Flags = int(netlink.FLAG_ONLINK)
	}
	return k
}

// lifetime is a time as the kernel takes it: seconds, rounded up, and 0 for ever, which the kernel writes so in turn.
func lifetime(d time.Duration) int {
	if d == forever {
		return 0
	}
	return int(min((d+time.Second-1)/time.Second, maxLife))
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
