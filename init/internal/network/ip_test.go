package network

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hapax/init/internal/cmdline"
)

// values has cmp compare addresses by what they are.
func values() cmp.Options {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

func addrs(list ...string) []netip.Addr {
	var all []netip.Addr
	for _, a := range list {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

func TestParseIP(t *testing.T) {
	t.Parallel()
	mac := net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	for value, want := range map[string]Interface{
		// The kernel's short form.
		"dhcp": {Method: DHCP}, "on": {Method: DHCP}, "any": {Method: DHCP}, "both": {Method: DHCP}, "bootp": {Method: DHCP},
		"off": {}, "none": {}, "auto6": {Method: Link},
		// The kernel's long one.
		"::::box::dhcp":  {Method: DHCP, Hostname: "box"},
		":::::eth1:dhcp": {Method: DHCP, Name: "eth1"},
		":::::eth1":      {Method: DHCP, Name: "eth1"},
		":::::eth1:off":  {Name: "eth1"},
		"192.168.1.5":    {Method: Static, Addresses: prefixes("192.168.1.5/24")},
		"172.16.0.5":     {Method: Static, Addresses: prefixes("172.16.0.5/16")},
		"10.1.2.3:::":    {Method: Static, Addresses: prefixes("10.1.2.3/8")},
		"10.1.2.3::10.1.2.1:255.255.255.0": {
			Method: Static, Addresses: prefixes("10.1.2.3/24"), Gateways: addrs("10.1.2.1"),
		},
		"10.1.2.3:10.1.2.2:10.1.2.1:255.255.254.0:box.example:eth0:none:1.1.1.1:9.9.9.9:10.1.2.9": {
			Name: "eth0", Method: Static, Addresses: prefixes("10.1.2.3/23"), Gateways: addrs("10.1.2.1"), Hostname: "box.example",
			DNS: addrs("1.1.1.1", "9.9.9.9"), NTP: addrs("10.1.2.9"),
		},
		"10.1.2.3:::24::eth0:off::9.9.9.9": {Name: "eth0", Method: Static, Addresses: prefixes("10.1.2.3/24"), DNS: addrs("9.9.9.9")},
		"10.1.2.3:::32::eth0:dhcp":         {Name: "eth0", Method: Static, Addresses: prefixes("10.1.2.3/32")},
		// dracut's.
		"eth0:dhcp":                          {Name: "eth0", Method: DHCP},
		"enp*:dhcp":                          {Name: "enp*", Method: DHCP},
		"eth0:auto6":                         {Name: "eth0", Method: Link},
		"eth0:off":                           {Name: "eth0"},
		"eth0:dhcp:1400":                     {Name: "eth0", Method: DHCP, MTU: 1400},
		"eth0:dhcp::52:54:00:12:34:56":       {Name: "eth0", Method: DHCP, MAC: mac},
		"eth0:dhcp:9000:52:54:00:12:34:56":   {Name: "eth0", Method: DHCP, MTU: 9000, MAC: mac},
		"52-54-00-12-34-56:dhcp":             {Name: "52:54:00:12:34:56", Method: DHCP},
		"10.0.0.2:::24:box:eth0:none:1400":   {Name: "eth0", Method: Static, Hostname: "box", Addresses: prefixes("10.0.0.2/24"), MTU: 1400},
		"[2001:db8::2]::[2001:db8::1]:64::x": {Name: "x", Method: Static, Addresses: prefixes("2001:db8::2/64"), Gateways: addrs("2001:db8::1")},
		"10.0.0.2:::24::eth0:none:1400:52:54:00:12:34:56": {
			Name: "eth0", Method: Static, Addresses: prefixes("10.0.0.2/24"), MTU: 1400, MAC: mac,
		},
		// All that the kernel lets out.
		"": {Method: DHCP}, ":::::::::": {Method: DHCP},
	} {
		got, err := ParseIP(value)
		if err != nil {
			t.Errorf("ParseIP(%q): %v", value, err)
			continue
		}
		if diff := cmp.Diff(want, got, values()); diff != "" {
			t.Errorf("ParseIP(%q) (-want +got):\n%s", value, diff)
		}
	}
}

func TestParseIPMistakes(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"dchp":                            `"dchp" is neither an address`,
		"eth0:dchp":                       `"dchp": want dhcp`,
		"eth0:ibft":                       "not supported",
		"10.0.0.300":                      "neither an address",
		"10.0.0.1:x":                      "server",
		"10.0.0.1::y":                     "gateway",
		"10.0.0.1:::255.0.255.0":          "ones and zeros",
		"10.0.0.1:::33":                   "no address of a host",
		"10.0.0.1:::mask":                 "netmask",
		"0.0.0.0":                         "no address of a host",
		"224.0.0.1:::24":                  "no address of a host",
		"10.0.0.1:::24:a b:eth0":          "host name",
		"10.0.0.1:::24::a/b":              "network device",
		"10.0.0.1:::24::0123456789abcdef": "network device",
		"10.0.0.1:::24::eth0:none:x":      "name or time server",
		"eth0:dhcp:12":                    "mtu",
		"eth0:dhcp:1500:52:54":            "MAC",
		"[2001:db8::1":                    "bracket",
		"[2001:db8::1]x:":                 "bracket",
		"[fe80::1%eth0]":                  "neither",
		"\x1b[2J:dhcp":                    `"?[2J"`,
		strings.Repeat(":", 600):          "bytes",
	} {
		if _, err := ParseIP(value); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseIP(%q): error %v, want one with %q", value, err, want)
		}
	}
}

func TestFromCmdline(t *testing.T) {
	t.Parallel()
	c, given, errs := FromCmdline(cmdline.Parse("ip=eth0:dhcp nameserver=9.9.9.9 ip=bad nameserver=[2620:fe::fe] nameserver=x ip=10.0.0.2:::24::eth1:none"))
	want := Config{
		Interfaces: []Interface{{Name: "eth0", Method: DHCP}, {Name: "eth1", Method: Static, Addresses: prefixes("10.0.0.2/24")}},
		DNS:        addrs("9.9.9.9", "2620:fe::fe"),
	}
	if diff := cmp.Diff(want, c, values()); diff != "" || !given || len(errs) != 2 {
		t.Errorf("given %v, errors %v (-want +got):\n%s", given, errs, diff)
	}
	if _, given, _ := FromCmdline(cmdline.Parse("nameserver=9.9.9.9")); given {
		t.Error("an ip= where there is none")
	}
}

// What image/network_test.go holds the builder to.
func TestParseFileOfBuilder(t *testing.T) {
	t.Parallel()
	got, err := ParseFile("hapax-network 1\ninterface en*\ndhcp\naddress 192.0.2.7/24\naddress 2001:db8::7/64\ngateway 192.0.2.1\ndns 192.0.2.53\n" +
		"search lab.example\nmtu 1400\n")
	want := Config{
		Interfaces: []Interface{{
			Name: "en*", Method: DHCP, Addresses: prefixes("192.0.2.7/24", "2001:db8::7/64"), Gateways: addrs("192.0.2.1"), DNS: addrs("192.0.2.53"), MTU: 1400,
		}},
		Search: []string{"lab.example"},
	}
	if diff := cmp.Diff(want, got, values()); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}

func TestParseFile(t *testing.T) {
	t.Parallel()
	got, err := ParseFile(Header + "\ninterface en*\naddress 192.0.2.7/24\naddress 2001:db8::7/64\ngateway 192.0.2.1\ndns 192.0.2.53\nsearch lab.example\nmtu 1400\n" +
		"interface *\ndhcp\n")
	want := Config{
		Interfaces: []Interface{
			{Name: "en*", Method: Static, Addresses: prefixes("192.0.2.7/24", "2001:db8::7/64"), Gateways: addrs("192.0.2.1"), DNS: addrs("192.0.2.53"), MTU: 1400},
			{Method: DHCP},
		},
		Search: []string{"lab.example"},
	}
	if diff := cmp.Diff(want, got, values()); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
	for text, want := range map[string]string{
		"":                                      "line 1",
		"dhcp\n":                                "line 1",
		Header + "\ndhcp\n":                     "line 2: dhcp: no interface",
		Header + "\ninterface a\nspeed 3\n":     "line 3: speed: unknown key",
		Header + "\ninterface a\naddress 1\n":   "line 3: address",
		Header + "\ninterface a\nmtu 3\n":       "line 3: mtu",
		Header + "\ninterface a\nsearch a b\n":  "line 3: search",
		Header + "\ninterface a\ngateway x\n":   "line 3: gateway",
		Header + "\ninterface [\n":              "line 2: interface",
		Header + strings.Repeat("\nx", maxFile): "bytes",
		Header + strings.Repeat("\ninterface a", maxInterfaces+1):                  "too many",
		Header + "\ninterface a" + strings.Repeat("\ndns 1.1.1.1", 1+maxAddresses): "too many",
	} {
		if _, err := ParseFile(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseFile(%.40q): error %v, want one with %q", text, err, want)
		}
	}
}

func FuzzParseIP(f *testing.F) {
	for _, value := range []string{
		"dhcp", "eth0:dhcp:1400:52:54:00:12:34:56", "10.1.2.3:10.1.2.2:10.1.2.1:255.255.254.0:box:eth0:none:1.1.1.1:9.9.9.9:10.1.2.9",
		"[2001:db8::2]::[2001:db8::1]:64::x", "::::::::::::", "[", "[]:", "10.0.0.1:::0", "\x00:off",
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		i, err := ParseIP(value)
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
				t.Fatalf("control characters in %q", err)
			}
			return
		}
		for _, p := range i.Addresses {
			if !p.IsValid() || p.Addr().IsUnspecified() || p.Addr().Zone() != "" {
				t.Fatalf("ParseIP(%q) gives the address %v", value, p)
			}
		}
		if (i.Method == Static) != (len(i.Addresses) > 0) {
			t.Fatalf("ParseIP(%q): method %d with the addresses %v", value, i.Method, i.Addresses)
		}
		if strings.ContainsAny(i.Name+i.Hostname, "/ \n\x00") || i.MTU < 0 || i.MTU > maxMTU {
			t.Fatalf("ParseIP(%q) = %+v", value, i)
		}
	})
}

func FuzzParseFile(f *testing.F) {
	f.Add(Header + "\ninterface *\ndhcp\nmtu 1400\n")
	f.Add(Header + "\ninterface a\naddress 192.0.2.7/24\ngateway 192.0.2.1\ndns 1.1.1.1\nsearch a.b\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseFile(text)
		if err == nil && len(c.Interfaces) > maxInterfaces {
			t.Fatalf("%d interfaces", len(c.Interfaces))
		}
		for _, name := range c.Search {
			if !validDomain(name) {
				t.Fatalf("domain %q", name)
			}
		}
	})
}
