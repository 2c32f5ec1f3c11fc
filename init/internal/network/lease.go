package network

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"hapax/init/internal/klog"
)

// A lease is what a DHCP server has granted, checked.
type lease struct {
	prefix netip.Prefix // the address, with the length of its network
	routes []route      // the default one included
	dns    []netip.Addr
	ntp    []netip.Addr
	search []string
	host   string // the name that the server gives this machine, "" for none
	mtu    int    // 0 for none
	server netip.Addr

	// After these times, counted from when the request was sent: the server is asked to prolong the lease, then any server is, and
	// last the address may not be used any more.
	renew, rebind, expire time.Duration

	ack *dhcpv4.DHCPv4 // what renewals are made of
}

// A route leads to dest by way of gateway, or over the link alone if that is not valid.
type route struct {
	dest    netip.Prefix
	gateway netip.Addr
}

// forever stands for a lease that does not end. It is far from an overflow of sums.
const forever time.Duration = math.MaxInt64 / 4

// Bounds of what a server may say. A C library looks at three name servers and six domains.
const (
	maxDNS    = 3
	maxNTP    = 4
	maxSearch = 6
	maxRoutes = 64
	minDHCP   = 576 // of the MTU: the least that IPv4 demands of a link (RFC 791)
)

// shortest is how long a lease holds at least. It keeps a server that grants nothing from being asked without end.
const shortest = 2 * time.Second

// readLease checks the offer or acknowledgement of a server. An error says why it cannot be used; what is only wrong about an
// option leaves that option out.
func readLease(m *dhcpv4.DHCPv4) (lease, error) {
	l := lease{ack: m}
	addr, ok := toAddr(m.YourIPAddr)
	if !ok || !host(addr) {
		return lease{}, fmt.Errorf("the address %v is none of a host", m.YourIPAddr)
	}
	bits, err := leaseBits(m, addr)
	if err != nil {
		return lease{}, err
	}
	l.prefix = netip.PrefixFrom(addr, bits)
	if l.server, ok = toAddr(m.ServerIdentifier()); !ok || !host(l.server) {
		return lease{}, errors.New("the server does not say who it is")
	}
	l.times(m)
	l.dns = addresses(m.DNS(), maxDNS)
	l.ntp = addresses(m.NTPServers(), maxNTP)
	l.readRoutes(m)
	if name := strings.TrimRight(m.HostName(), "\x00."); validDomain(name) && len(name) <= 64 {
		l.host = name
	}
	l.readSearch(m)
	if b := m.Options.Get(dhcpv4.OptionInterfaceMTU); len(b) == 2 {
		if n := int(b[0])<<8 | int(b[1]); n >= minDHCP {
			l.mtu = n
		}
	}
	return l, nil
}

// leaseBits returns the length of the network's prefix.
func leaseBits(m *dhcpv4.DHCPv4, addr netip.Addr) (int, error) {
	mask := m.SubnetMask()
	if mask == nil {
		p, err := clientPrefix(addr.String(), "")
		return p.Bits(), err
	}
	ones, bits := mask.Size()
	if bits != 32 || ones == 0 {
		return 0, fmt.Errorf("the netmask %v is none", mask)
	}
	return ones, nil
}

// times sets when the lease is to be renewed and ends, by RFC 2131, section 4.4.5. Times that are not in order are replaced by
// the standard ones.
func (l *lease) times(m *dhcpv4.DHCPv4) {
	const infinite = math.MaxUint32 * time.Second
	l.expire = m.IPAddressLeaseTime(time.Hour)
	if l.expire >= infinite {
		l.renew, l.rebind, l.expire = forever, forever, forever
		return
	}
	l.expire = max(l.expire, shortest)
	l.renew = m.IPAddressRenewalTime(l.expire / 2)
	l.rebind = m.IPAddressRebindingTime(l.expire / 8 * 7)
	if l.renew < shortest/2 || l.renew >= l.rebind || l.rebind >= l.expire {
		l.renew, l.rebind = l.expire/2, l.expire/8*7
	}
}

// readRoutes takes the classless routes if there are any, which by RFC 3442 stand for all others.
func (l *lease) readRoutes(m *dhcpv4.DHCPv4) {
	for _, r := range m.ClasslessStaticRoute() {
		ones, bits := r.Dest.Mask.Size()
		dest, ok := toAddr(r.Dest.IP)
		gateway, ok2 := toAddr(r.Router)
		if !ok || !ok2 || bits != 32 || len(l.routes) == maxRoutes {
			continue
		}
		to := route{dest: netip.PrefixFrom(dest, ones).Masked()}
		switch {
		case gateway.IsUnspecified(): // RFC 3442: on the link
		case host(gateway):
			to.gateway = gateway
		default:
			continue
		}
		if !to.dest.Addr().IsLoopback() && !to.dest.Addr().IsMulticast() {
			l.routes = append(l.routes, to)
		}
	}
	if len(l.routes) > 0 {
		return
	}
	if routers := addresses(m.Router(), 1); len(routers) > 0 {
		l.routes = []route{{dest: netip.PrefixFrom(netip.IPv4Unspecified(), 0), gateway: routers[0]}}
	}
}

// readSearch takes the search list of RFC 3397, or the domain.
func (l *lease) readSearch(m *dhcpv4.DHCPv4) {
	names := []string{strings.TrimRight(m.DomainName(), "\x00")}
	if labels := m.DomainSearch(); labels != nil && len(labels.Labels) > 0 {
		names = labels.Labels
	}
	for _, name := range names {
		if validDomain(name) && len(l.search) < maxSearch {
			l.search = append(l.search, strings.TrimSuffix(name, "."))
		}
	}
}

// String is one line for the log.
func (l lease) String() string {
	until := "for ever"
	if l.expire != forever {
		until = "for " + l.expire.String()
	}
	return klog.Printable(fmt.Sprintf("%s from %s %s", l.prefix, l.server, until))
}

// toAddr converts an IPv4 address of package net.
func toAddr(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	a = a.Unmap()
	return a, ok && a.Is4()
}

// host reports whether a is one that a host can have.
func host(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a.AsSlice()[0] != 0 && a.AsSlice()[0] < 240
}

// addresses returns at most n of the addresses of hosts in list.
func addresses(list []net.IP, n int) []netip.Addr {
	var all []netip.Addr
	for _, ip := range list {
		if a, ok := toAddr(ip); ok && host(a) && len(all) < n {
			all = append(all, a)
		}
	}
	return all
}
