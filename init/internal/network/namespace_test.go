package network

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/klog"
	"hapax/tests/need"
)

const insideEnv = "NETWORK_TEST_INSIDE"

// inside runs the test again in network, mount and UTS namespaces of its own, and reports whether this is that run.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		unix.Sethostname([]byte("localhost"))
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"/etc", "/run"} {
			if err := unix.Mount("test", dir, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
		}
		return true
	}
	need.Root(t)
	t.Parallel()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWUTS, Pdeathsig: unix.SIGKILL}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) {
		need.Unmet(t, "this machine does not let root make namespaces: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// A peer is the other end of the cable: a network namespace with a DHCP server.
type peer struct {
	t        *testing.T
	do       chan func() // runs in the namespace
	requests chan string // "DISCOVER", "REQUEST to all", "REQUEST to me"

	mu     sync.Mutex // protects what follows
	silent bool
	answer func(request *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4
}

// newPeer lays a cable between eth0 here and srv0 there, which has 10.0.0.1.
func newPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{t: t, do: make(chan func()), requests: make(chan string, 1000), answer: grant(3600)}
	fd := make(chan int)
	go func() {
		runtime.LockOSThread() // for ever: the thread is not fit for other goroutines any more
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
		ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		fd <- ns
		for f := range p.do {
			f()
		}
	}()
	ns := <-fd
	p.plugIn(ns)
	p.in(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		server, err := server4.NewServer("srv0", &net.UDPAddr{Port: 67}, p.handle)
		if err != nil {
			return err
		}
		go func() { _ = server.Serve() }()
		return netlink.LinkSetUp(lo)
	})
	return p
}

func (p *peer) plugIn(ns int) {
	p.t.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "srv0", PeerNamespace: netlink.NsFd(ns)}
	if err := netlink.LinkAdd(veth); err != nil {
		p.t.Fatal(err)
	}
	p.in(func() error {
		l, err := netlink.LinkByName("srv0")
		if err != nil {
			return err
		}
		addr, _ := netlink.ParseAddr("10.0.0.1/24")
		return errors.Join(netlink.AddrAdd(l, addr), netlink.LinkSetUp(l))
	})
}

// in runs f in the namespace of the peer.
func (p *peer) in(f func() error) {
	p.t.Helper()
	done := make(chan error)
	p.do <- func() { done <- f() }
	if err := <-done; err != nil {
		p.t.Fatal(err)
	}
}

// cable sets the peer's end up or down.
func (p *peer) cable(up bool) {
	p.in(func() error {
		l, err := netlink.LinkByName("srv0")
		if err != nil {
			return err
		}
		if up {
			return netlink.LinkSetUp(l)
		}
		return netlink.LinkSetDown(l)
	})
}

func (p *peer) behave(silent bool, answer func(*dhcpv4.DHCPv4) []*dhcpv4.DHCPv4) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent, p.answer = silent, answer
}

func (p *peer) handle(conn net.PacketConn, from net.Addr, request *dhcpv4.DHCPv4) {
	what := request.MessageType().String()
	if request.MessageType() == dhcpv4.MessageTypeRequest {
		what += " to all"
		if a := from.(*net.UDPAddr); !a.IP.Equal(net.IPv4bcast) {
			what = request.MessageType().String() + " to me"
		}
	}
	p.requests <- what
	p.mu.Lock()
	silent, answer := p.silent, p.answer
	p.mu.Unlock()
	if silent {
		return
	}
	for _, m := range answer(request) {
		_, _ = conn.WriteTo(m.ToBytes(), from)
	}
}

// await waits for a request of a kind.
func (p *peer) await(what string) {
	p.t.Helper()
	var seen []string
	for deadline := time.After(time.Minute); ; {
		select {
		case got := <-p.requests:
			if got == what {
				return
			}
			seen = append(seen, got)
		case <-deadline:
			p.t.Fatalf("no %s within a minute; there came %q", what, seen)
		}
	}
}

// grant answers with a lease of 10.0.0.5 for so many seconds.
func grant(seconds uint32, more ...dhcpv4.Modifier) func(*dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 {
	return func(request *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 {
		kind := dhcpv4.MessageTypeAck
		if request.MessageType() == dhcpv4.MessageTypeDiscover {
			kind = dhcpv4.MessageTypeOffer
		}
		m, err := dhcpv4.NewReplyFromRequest(request, append([]dhcpv4.Modifier{
			dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 5)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 1))), dhcpv4.WithLeaseTime(seconds),
		}, more...)...)
		if err != nil {
			return nil
		}
		return []*dhcpv4.DHCPv4{m}
	}
}

// A line of a log that the test shows.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// begin runs a manager until the test ends, and returns what is closed when it says that the network is there.
func begin(t *testing.T, c Config) (ready chan struct{}) {
	t.Helper()
	ready = make(chan struct{})
	m := newManager(c, klog.New(testLog{t}, cmdline.Debug), func() { close(ready) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = m.follow(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return ready
}

// until waits for a state of this namespace, looking at it after each event of the kernel.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	done := make(chan struct{})
	defer close(done)
	addrs, links := make(chan netlink.AddrUpdate, 100), make(chan netlink.LinkUpdate, 100)
	if err := errors.Join(netlink.AddrSubscribe(addrs, done), netlink.LinkSubscribe(links, done)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.After(time.Minute); !holds(); {
		select {
		case <-addrs:
		case <-links:
		case <-time.After(100 * time.Millisecond): // routes and files come a little later
		case <-deadline:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// has returns the IPv4 addresses of eth0, and routes the destinations of its routes but that of its own network.
func has(t *testing.T) (addresses, routes []string) {
	t.Helper()
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		return nil, nil
	}
	list, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		addresses = append(addresses, a.IPNet.String())
	}
	all, err := netlink.RouteList(l, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.Protocol != unix.RTPROT_KERNEL {
			routes = append(routes, r.Dst.String()+" via "+r.Gw.String())
		}
	}
	slices.Sort(routes)
	return addresses, routes
}

func hasAddress(t *testing.T, want ...string) func() bool {
	return func() bool {
		addresses, _ := has(t)
		return slices.Equal(addresses, want)
	}
}

func TestLease(t *testing.T) {
	if !inside(t) {
		return
	}
	p := newPeer(t)
	_, net9, _ := net.ParseCIDR("10.9.0.0/16")
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	p.behave(false, grant(3600, dhcpv4.WithDNS(net.IPv4(10, 0, 0, 2)), dhcpv4.WithDomainSearchList("lab.example"),
		dhcpv4.WithOption(dhcpv4.OptHostName("given")), dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{5, 120}),
		dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(
			&dhcpv4.Route{Dest: net9, Router: net.IPv4(10, 0, 0, 9)}, &dhcpv4.Route{Dest: all, Router: net.IPv4(10, 0, 1, 1)})))) // off the link
	<-begin(t, Config{Interfaces: []Interface{{Name: "eth*", Method: DHCP}}, DNS: addrs("192.0.2.53")})
	addresses, routes := has(t)
	compare(t, []string{"10.0.0.5/24"}, addresses)
	compare(t, []string{"0.0.0.0/0 via 10.0.1.1", "10.9.0.0/16 via 10.0.0.9"}, routes)
	text, err := os.ReadFile(resolvFile)
	if want := "# Written by hapax.\nsearch lab.example\nnameserver 192.0.2.53\nnameserver 10.0.0.2\n"; err != nil || string(text) != want {
		t.Errorf("%s holds %q, error %v", resolvFile, text, err)
	}
	if name, _ := os.Hostname(); name != "given" {
		t.Errorf("host name %q", name)
	}
	l, err := netlink.LinkByName("eth0")
	if err != nil || l.Attrs().MTU != 1400 {
		t.Errorf("MTU %d, error %v", l.Attrs().MTU, err)
	}
	state, err := os.ReadFile(stateDir + "/eth0")
	if want := "address=10.0.0.5/24\ngateway=10.0.1.1\ndns=10.0.0.2\nsearch=lab.example\nhostname=given\nserver=10.0.0.1\nlease=3600\n"; err != nil || string(state) != want {
		t.Errorf("state %q, error %v", state, err)
	}
}

// A lease of three seconds, by the real clock: renewed with the server alone, given up when that is silent, and got again.
func TestRenewal(t *testing.T) {
	if !inside(t) {
		return
	}
	p := newPeer(t)
	p.behave(false, grant(3, dhcpv4.WithRouter(net.IPv4(10, 0, 0, 1))))
	<-begin(t, Config{Interfaces: []Interface{{Name: "eth0", Method: DHCP}}})
	p.await("REQUEST to all")
	for range 2 {
		p.await("REQUEST to me")
	}
	until(t, "the address after two renewals", hasAddress(t, "10.0.0.5/24"))
	p.behave(true, nil)
	p.await("REQUEST to all") // rebinding
	until(t, "no address after the end of the lease", hasAddress(t))
	if _, routes := has(t); len(routes) > 0 {
		t.Errorf("routes without an address: %q", routes)
	}
	p.await("DISCOVER")
	p.behave(false, grant(3600))
	until(t, "an address again", hasAddress(t, "10.0.0.5/24"))
}

// A server refuses to prolong, and gives another address.
func TestRefusal(t *testing.T) {
	if !inside(t) {
		return
	}
	p := newPeer(t)
	p.behave(false, grant(2))
	<-begin(t, Config{Interfaces: []Interface{{Name: "eth0", Method: DHCP}}})
	p.behave(false, func(request *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 {
		if !request.ClientIPAddr.IsUnspecified() {
			return grant(2, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak))(request)
		}
		return grant(3600, dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 77)))(request)
	})
	until(t, "the other address", hasAddress(t, "10.0.0.77/24"))
}

// A renewal brings another address of the same network and other routes. What the image says of the MTU holds.
func TestChange(t *testing.T) {
	if !inside(t) {
		return
	}
	p := newPeer(t)
	_, net8, _ := net.ParseCIDR("10.8.0.0/16")
	_, net9, _ := net.ParseCIDR("10.9.0.0/16")
	by := func(routes ...*dhcpv4.Route) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(routes...))
	}
	mtu := dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{5, 120}) // 1400
	via8, via9 := &dhcpv4.Route{Dest: net8, Router: net.IPv4(10, 0, 0, 8)}, &dhcpv4.Route{Dest: net9, Router: net.IPv4(10, 0, 0, 9)}
	p.behave(false, grant(3, mtu, by(via8, via9)))
	<-begin(t, Config{Interfaces: []Interface{{Name: "eth0", Method: DHCP, MTU: 1300}}})
	_, routes := has(t)
	compare(t, []string{"10.8.0.0/16 via 10.0.0.8", "10.9.0.0/16 via 10.0.0.9"}, routes)
	p.behave(false, grant(3, mtu, by(via9)))
	until(t, "one route less", func() bool {
		_, routes := has(t)
		return slices.Equal(routes, []string{"10.9.0.0/16 via 10.0.0.9"})
	})
	p.behave(false, grant(3600, mtu, by(via9), dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 77))))
	until(t, "the other address alone, with its route", func() bool {
		addresses, routes := has(t)
		return slices.Equal(addresses, []string{"10.0.0.77/24"}) && slices.Equal(routes, []string{"10.9.0.0/16 via 10.0.0.9"})
	})
	if l, err := netlink.LinkByName("eth0"); err != nil || l.Attrs().MTU != 1300 {
		t.Errorf("MTU %d, error %v", l.Attrs().MTU, err)
	}
}

// Before the one good answer comes rubbish: it is passed over.
func TestHostileServer(t *testing.T) {
	if !inside(t) {
		return
	}
	p := newPeer(t)
	good := grant(3600)
	bad := []dhcpv4.Modifier{
		dhcpv4.WithYourIP(net.IPv4bcast), dhcpv4.WithYourIP(net.IPv4zero), dhcpv4.WithNetmask(net.IPv4Mask(255, 0, 255, 0)),
		dhcpv4.WithoutOption(dhcpv4.OptionServerIdentifier), dhcpv4.WithTransactionID(dhcpv4.TransactionID{1, 2, 3, 4}),
		dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 1}), dhcpv4.WithMessageType(dhcpv4.MessageTypeInform),
	}
	p.behave(false, func(request *dhcpv4.DHCPv4) []*dhcpv4.DHCPv4 {
		var all []*dhcpv4.DHCPv4
		for _, change := range bad {
			all = append(all, grant(3600, change)(request)...)
		}
		return append(all, good(request)...)
	})
	<-begin(t, Config{Interfaces: []Interface{{Name: "eth0", Method: DHCP}}})
	addresses, _ := has(t)
	compare(t, []string{"10.0.0.5/24"}, addresses)
}

// The cable is pulled and put in again; then the device goes, and comes again.
func TestCable(t *testing.T) {
	if !inside(t) {
		return
	}
	p := newPeer(t)
	<-begin(t, Config{Interfaces: []Interface{{Name: "eth0", Method: DHCP}}})
	p.await("REQUEST to all")
	p.cable(false)
	until(t, "no carrier", func() bool {
		l, err := netlink.LinkByName("eth0")
		return err == nil && l.Attrs().RawFlags&unix.IFF_RUNNING == 0
	})
	p.cable(true)
	p.await("REQUEST to all")
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(l); err != nil {
		t.Fatal(err)
	}
	until(t, "no state of a device that has gone", func() bool {
		_, err := os.Stat(stateDir + "/eth0")
		return errors.Is(err, os.ErrNotExist)
	})
}

// A static address beside a lease.
func TestBoth(t *testing.T) {
	if !inside(t) {
		return
	}
	newPeer(t)
	<-begin(t, Config{Interfaces: []Interface{{Name: "eth0", Method: DHCP, Addresses: prefixes("192.168.7.1/24")}}})
	addresses, _ := has(t)
	slices.Sort(addresses)
	compare(t, []string{"10.0.0.5/24", "192.168.7.1/24"}, addresses)
}

func TestStatic(t *testing.T) {
	if !inside(t) {
		return
	}
	newPeer(t)
	<-begin(t, Config{Interfaces: []Interface{
		{Name: "absent", Method: Off},
		{Name: "eth0", Method: Static, Addresses: prefixes("10.0.0.9/24", "10.1.0.9/24"), Gateways: addrs("10.0.0.1"), MTU: 1300,
			DNS: addrs("10.0.0.1"), Hostname: "static-host"},
	}})
	addresses, routes := has(t)
	compare(t, []string{"10.0.0.9/24", "10.1.0.9/24"}, addresses)
	compare(t, []string{"0.0.0.0/0 via 10.0.0.1"}, routes)
	l, err := netlink.LinkByName("eth0")
	if err != nil || l.Attrs().MTU != 1300 {
		t.Errorf("MTU %d, error %v", l.Attrs().MTU, err)
	}
	if name, _ := os.Hostname(); name != "static-host" {
		t.Errorf("host name %q", name)
	}
	if text, err := os.ReadFile(resolvFile); err != nil || !strings.Contains(string(text), "nameserver 10.0.0.1\n") {
		t.Errorf("%s holds %q, error %v", resolvFile, text, err)
	}
}

// An entry for every Ethernet device leaves those alone that software makes, and its own exception.
func TestEntryOf(t *testing.T) {
	t.Parallel()
	m := newManager(Config{Interfaces: []Interface{
		{Name: "eth9", Method: Off}, {Name: "br*", Method: DHCP}, {Name: "52:54:00:12:34:56", Method: DHCP}, {Method: Static}, {Method: DHCP},
	}}, nil, nil)
	device := func(name, kind string) netlink.Link {
		attrs := netlink.LinkAttrs{Name: name, EncapType: "ether", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
		switch kind {
		case "bridge":
			return &netlink.Bridge{LinkAttrs: attrs}
		case "loopback":
			attrs.EncapType = kind
		case "special":
			attrs.HardwareAddr = net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
		}
		return &netlink.Device{LinkAttrs: attrs}
	}
	check := func(l netlink.Link, want int) {
		t.Helper()
		if got := m.entryOf(l); got != want {
			t.Errorf("%s: entry %d, want %d", l.Attrs().Name, got, want)
		}
	}
	check(device("eth9", ""), -1)
	check(device("lo", "loopback"), -1)
	check(device("br0", "bridge"), 1)
	check(device("virbr0", "bridge"), -1)
	check(device("eth5", "special"), 2)
	check(device("eth0", ""), 3)
	m.links[1] = &link{Link: device("eth0", ""), entry: 3}
	check(device("eth1", ""), 4) // the static addresses are taken
}
