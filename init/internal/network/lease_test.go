package network

import (
	"math"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

// ack returns an acknowledgement of 10.0.0.5 by 10.0.0.1, changed.
func ack(t testing.TB, changes ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 5)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 1))), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithLeaseTime(3600),
	}, changes...)...)
	if err != nil {
		t.Fatal(err)
	}
	m.OpCode = dhcpv4.OpcodeBootReply
	return m
}

func seconds(code dhcpv4.OptionCode, n uint32) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(code, []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func TestReadLease(t *testing.T) {
	t.Parallel()
	_, net10, _ := net.ParseCIDR("10.9.0.0/16")
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	zero := netip.MustParsePrefix("0.0.0.0/0")
	for _, tt := range []struct {
		name   string
		change dhcpv4.Modifier
		want   func(l *lease)
	}{
		{"plain", dhcpv4.WithBroadcast(false), func(*lease) {}},
		{"no mask", dhcpv4.WithoutOption(dhcpv4.OptionSubnetMask), func(l *lease) { l.prefix = netip.MustParsePrefix("10.0.0.5/8") }},
		{"router", dhcpv4.WithRouter(net.IPv4(10, 0, 0, 254), net.IPv4(10, 0, 0, 253)), func(l *lease) {
			l.routes = []route{{zero, netip.MustParseAddr("10.0.0.254")}}
		}},
		{"router that is none", dhcpv4.WithRouter(net.IPv4(224, 0, 0, 1)), func(*lease) {}},
		{"classless routes stand for the router", func(m *dhcpv4.DHCPv4) {
			m.UpdateOption(dhcpv4.OptRouter(net.IPv4(10, 0, 0, 254)))
			m.UpdateOption(dhcpv4.OptClasslessStaticRoute(
				&dhcpv4.Route{Dest: net10, Router: net.IPv4zero}, &dhcpv4.Route{Dest: all, Router: net.IPv4(10, 0, 0, 9)},
				&dhcpv4.Route{Dest: all, Router: net.IPv4bcast}))
		}, func(l *lease) {
			l.routes = []route{{netip.MustParsePrefix("10.9.0.0/16"), netip.Addr{}}, {zero, netip.MustParseAddr("10.0.0.9")}}
		}},
		{"name servers", dhcpv4.WithDNS(net.IPv4(10, 0, 0, 2), net.IPv4zero, net.IPv4(127, 0, 0, 1), net.IPv4(10, 0, 0, 3), net.IPv4(10, 0, 0, 4), net.IPv4(10, 0, 0, 6)), func(l *lease) {
			l.dns = addrs("10.0.0.2", "10.0.0.3", "10.0.0.4")
		}},
		{"names", func(m *dhcpv4.DHCPv4) {
			m.UpdateOption(dhcpv4.OptHostName("box\x00"))
			m.UpdateOption(dhcpv4.OptDomainName("lab.example"))
		}, func(l *lease) { l.host, l.search = "box", []string{"lab.example"} }},
		{"hostile names", func(m *dhcpv4.DHCPv4) {
			m.UpdateOption(dhcpv4.OptHostName("$(reboot)"))
			m.UpdateOption(dhcpv4.OptDomainName("a\nnameserver 6.6.6.6"))
		}, func(*lease) {}},
		{"search list", dhcpv4.WithDomainSearchList("a.example", "b c", "d.example"), func(l *lease) { l.search = []string{"a.example", "d.example"} }},
		{"MTU", dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{5, 120}), func(l *lease) { l.mtu = 1400 }},
		{"MTU too small", dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0, 68}), func(*lease) {}},
		{"MTU of a wrong length", dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{5}), func(*lease) {}},
		{"without end", dhcpv4.WithLeaseTime(math.MaxUint32), func(l *lease) { l.renew, l.rebind, l.expire = forever, forever, forever }},
		{"no time at all", dhcpv4.WithLeaseTime(0), func(l *lease) {
			l.renew, l.rebind, l.expire = time.Second, 1750*time.Millisecond, 2*time.Second
		}},
		{"own times", func(m *dhcpv4.DHCPv4) {
			seconds(dhcpv4.OptionRenewTimeValue, 100)(m)
			seconds(dhcpv4.OptionRebindingTimeValue, 200)(m)
		}, func(l *lease) { l.renew, l.rebind = 100*time.Second, 200*time.Second }},
		{"times out of order", func(m *dhcpv4.DHCPv4) {
			seconds(dhcpv4.OptionRenewTimeValue, 300)(m)
			seconds(dhcpv4.OptionRebindingTimeValue, 200)(m)
		}, func(*lease) {}},
		{"a time of zero", seconds(dhcpv4.OptionRenewTimeValue, 0), func(*lease) {}},
	} {
		want := lease{
			prefix: netip.MustParsePrefix("10.0.0.5/24"), server: netip.MustParseAddr("10.0.0.1"),
			renew: 30 * time.Minute, rebind: 52*time.Minute + 30*time.Second, expire: time.Hour,
		}
		tt.want(&want)
		got, err := readLease(ack(t, tt.change))
		got.ack = nil
		if diff := cmp.Diff(want, got, values(), cmp.AllowUnexported(lease{}, route{})); err != nil || diff != "" {
			t.Errorf("%s: error %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
}

// A lease that cannot work is refused, so that another server gets its turn.
func TestReadLeaseRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]dhcpv4.Modifier{
		"no address":         dhcpv4.WithYourIP(net.IPv4zero),
		"broadcast":          dhcpv4.WithYourIP(net.IPv4bcast),
		"multicast":          dhcpv4.WithYourIP(net.IPv4(224, 0, 0, 1)),
		"loopback":           dhcpv4.WithYourIP(net.IPv4(127, 0, 0, 1)),
		"reserved":           dhcpv4.WithYourIP(net.IPv4(240, 0, 0, 1)),
		"network 0":          dhcpv4.WithYourIP(net.IPv4(0, 0, 0, 5)),
		"mask with holes":    dhcpv4.WithNetmask(net.IPv4Mask(255, 0, 255, 0)),
		"mask of everything": dhcpv4.WithNetmask(net.CIDRMask(0, 32)),
		"no server":          dhcpv4.WithoutOption(dhcpv4.OptionServerIdentifier),
		"server nobody":      dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4zero)),
	} {
		if l, err := readLease(ack(t, change)); err == nil {
			t.Errorf("%s: taken: %v", name, l)
		}
	}
}

func TestReadLeaseBounds(t *testing.T) {
	t.Parallel()
	var routes []*dhcpv4.Route
	for i := range 1000 {
		routes = append(routes, &dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(11, byte(i>>8), byte(i), 0), Mask: net.CIDRMask(24, 32)}, Router: net.IPv4(10, 0, 0, 1)})
	}
	labels := &rfc1035label.Labels{}
	for range 100 {
		labels.Labels = append(labels.Labels, "a.example")
	}
	l, err := readLease(ack(t, dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(routes...)), dhcpv4.WithOption(dhcpv4.OptDomainSearch(labels)),
		dhcpv4.WithOption(dhcpv4.OptHostName(strings.Repeat("a", 200)))))
	if err != nil || len(l.routes) != maxRoutes || len(l.search) != maxSearch || l.host != "" {
		t.Errorf("error %v, %d routes, %d domains, name %q", err, len(l.routes), len(l.search), l.host)
	}
}

func FuzzReadLease(f *testing.F) {
	f.Add(ack(f).ToBytes())
	f.Add(ack(f, dhcpv4.WithRouter(net.IPv4(10, 0, 0, 254)), dhcpv4.WithDNS(net.IPv4(10, 0, 0, 2)), dhcpv4.WithDomainSearchList("a.example", "b.a.example")).ToBytes())
	f.Add(ack(f, dhcpv4.WithGeneric(dhcpv4.OptionClasslessStaticRoute, []byte{24, 10, 0, 0, 10, 0, 0, 1, 33})).ToBytes())
	f.Add(ack(f, dhcpv4.WithGeneric(dhcpv4.OptionDNSDomainSearchList, []byte{1, 'a', 0xc0, 0, 0xc0, 0})).ToBytes())
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > 1500 {
			return
		}
		m, err := dhcpv4.FromBytes(packet)
		if err != nil {
			return
		}
		l, err := readLease(m)
		if err != nil {
			return
		}
		if !l.prefix.IsValid() || l.prefix.Bits() == 0 || !l.server.IsValid() || l.renew <= 0 || l.renew > l.rebind || l.rebind > l.expire {
			t.Fatalf("lease %+v", l)
		}
		if len(l.routes) > maxRoutes || len(l.dns) > maxDNS || len(l.search) > maxSearch {
			t.Fatalf("lease without bounds: %+v", l)
		}
		text := resolvConf(Config{}, []*link{{lease: &l}}) + stateText(&link{lease: &l})
		for line := range strings.Lines(text) {
			if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("line %q", line)
			}
		}
	})
}
