package network

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/klog"
)

// ReadyEnv names the descriptor on which a service of the image says that it is ready: it writes a line and closes it.
const ReadyEnv = "HAPAX_READY_FD"

// A link is one that the Config names.
type link struct {
	netlink.Link // as of its last event
	config       Interface
	entry        int // of the Config
	up           bool
	configured   bool   // it has what the Config says: static addresses, or a lease
	lease        *lease // of DHCP, nil for none
	again        chan struct{}
	stop         context.CancelFunc
}

// A manager is the state of Run.
type manager struct {
	config Config
	log    *klog.Logger
	links  map[int]*link
	events chan event
	ready  func() // nil once it has been called
}

// An event is what the keeper of a lease tells the manager; a nil lease is one that is lost.
type event struct {
	link  *link
	lease *lease
}

// Run brings the network up and keeps it up. It returns 0 at once if nothing is asked for, and else only with an error.
func Run() int {
	raw, _ := os.ReadFile("/proc/cmdline") // without it the file of the image holds
	params := cmdline.Parse(string(raw))
	log := klog.Open(params.LogLevel)
	ready, err := readiness(os.Getenv(ReadyEnv))
	if err != nil {
		log.Warnf("network: %s: %v", ReadyEnv, err)
	}
	m := newManager(settings(params, log), log, ready)
	m.checkReady()
	if len(m.config.Interfaces) == 0 {
		return 0
	}
	for {
		err := m.follow(context.Background())
		// Events were lost, or the kernel is short of memory. The next subscription begins with a list of all links.
		m.log.Warnf("network: %v; looking at all links again", err)
		time.Sleep(time.Second)
	}
}

func newManager(c Config, log *klog.Logger, ready func()) *manager {
	return &manager{config: c, log: log, links: map[int]*link{}, events: make(chan event), ready: ready}
}

// settings returns what the command line says, or else the file.
func settings(params *cmdline.Params, log *klog.Logger) Config {
	c, given, errs := FromCmdline(params)
	for _, err := range errs {
		log.Warnf("network: %v", err)
	}
	if given {
		return c
	}
	text, err := os.ReadFile(File)
	if errors.Is(err, os.ErrNotExist) {
		return c
	}
	var file Config
	if err == nil {
		file, err = ParseFile(string(text))
	}
	if err != nil {
		log.Warnf("network: %s: %v", File, err)
		return c
	}
	file.DNS = append(c.DNS, file.DNS...)
	return file
}

// readiness returns what tells that the network is there, by a descriptor whose number is in the environment.
func readiness(number string) (func(), error) {
	if number == "" {
		return func() {}, nil
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 3 {
		return func() {}, errors.New("no descriptor")
	}
	unix.CloseOnExec(n)
	f := os.NewFile(uintptr(n), "ready")
	return func() {
		_, _ = f.WriteString("ready\n") // who does not listen any more need not be told
		f.Close()
	}, nil
}

// follow acts on the events of links and leases until one of the two ends. Leases stay.
func (m *manager) follow(ctx context.Context) error {
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	failed := make(chan error, 16)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		ListExisting: true,
		ErrorCallback: func(err error) {
			select {
			case failed <- err:
			default:
			}
		},
	})
	if err != nil {
		close(done)
		return err
	}
	for _, l := range m.sorted() { // one may have gone unseen before the subscription
		if _, err := netlink.LinkByIndex(l.Attrs().Index); errors.As(err, new(netlink.LinkNotFoundError)) {
			m.forget(l)
		}
	}
	defer func() {
		close(done)
		for range updates { // the one who sends must not wait for ever
		}
	}()
	for {
		select {
		case u, ok := <-updates:
			if !ok {
				return errors.Join(errors.New("the events of links have ended"), drain(failed))
			}
			m.linkEvent(ctx, u)
		case e := <-m.events:
			m.leaseEvent(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drain returns the first of the errors that have come.
func drain(errs <-chan error) error {
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// linkEvent acts on one change of a link.
func (m *manager) linkEvent(ctx context.Context, u netlink.LinkUpdate) {
	attrs := u.Link.Attrs()
	l := m.links[attrs.Index]
	if u.Header.Type == unix.RTM_DELLINK {
		if l != nil {
			m.forget(l)
		}
		return
	}
	if l == nil {
		entry := m.entryOf(u.Link)
		if entry < 0 {
			return
		}
		l = &link{Link: u.Link, config: m.config.Interfaces[entry], entry: entry, again: make(chan struct{}, 1)}
		m.links[attrs.Index] = l
		m.log.Debugf("network: %s is there", attrs.Name)
		if err := setLink(l, l.config); err != nil {
			m.log.Warnf("network: %s: %v", attrs.Name, err)
		}
	}
	l.Link = u.Link
	// IFF_LOWER_UP comes earlier, but what is sent before its queues are set up is lost without a word.
	carrier := attrs.RawFlags&unix.IFF_RUNNING != 0
	if carrier == l.up {
		return
	}
	l.up = carrier
	m.log.Debugf("network: %s has a carrier: %v", attrs.Name, carrier)
	if carrier {
		m.connected(ctx, l)
	}
}

// entryOf returns the entry of the Config that a link is for, or -1. An entry without a name is for every Ethernet device, those
// that are made by software excepted, and with static addresses for the first of them alone.
func (m *manager) entryOf(l netlink.Link) int {
	attrs := l.Attrs()
	ethernet := l.Type() == "device" && attrs.EncapType == "ether"
	for n, i := range m.config.Interfaces {
		if i.Name != "" && i.Name != attrs.HardwareAddr.String() {
			if ok, _ := path.Match(i.Name, attrs.Name); !ok { // the pattern has been checked
				continue
			}
		}
		taken := i.Method == Static && slices.ContainsFunc(m.sorted(), func(l *link) bool { return l.entry == n })
		switch {
		case i.Method == Off:
			if i.Name != "" {
				return -1 // "leave this one alone" is meant against an entry for all
			}
		case i.Name == "" && !ethernet:
		case taken:
		default:
			return n
		}
	}
	return -1
}

// connected acts on a link that has a carrier now.
func (m *manager) connected(ctx context.Context, l *link) {
	name := l.Attrs().Name
	if len(l.config.Addresses) > 0 {
		if err := setStatic(l, l.config); err != nil {
			m.log.Warnf("network: %s: %v", name, err)
		}
		m.log.Infof("network: %s has %v", name, l.config.Addresses)
	}
	switch {
	case l.config.Method == DHCP && l.stop == nil:
		ctx, l.stop = context.WithCancel(ctx)
		go m.keep(ctx, l, name, dhcp{link: name, mac: slices.Clone(l.Attrs().HardwareAddr)})
	case l.config.Method == DHCP:
		select {
		case l.again <- struct{}{}:
		default: // it has been told
		}
	default:
		l.configured = true
		m.publish(l)
	}
}

// keep is the goroutine of a lease. Of l it looks only at the channel, for the rest is the manager's.
func (m *manager) keep(ctx context.Context, l *link, name string, c client) {
	tell := func(lease *lease) {
		select {
		case m.events <- event{l, lease}:
		case <-ctx.Done():
		}
	}
	logf := func(format string, args ...any) { m.log.Infof("network: "+name+": "+format, args...) }
	keep(ctx, c, l.again, logf, func(got lease) { tell(&got) }, func() { tell(nil) })
}

// leaseEvent acts on a lease that has come, was renewed or is lost.
func (m *manager) leaseEvent(e event) {
	l := e.link
	name := l.Attrs().Name
	if m.links[l.Attrs().Index] != l {
		return // the link has gone meanwhile
	}
	old := l.lease
	l.lease, l.configured = e.lease, e.lease != nil
	if e.lease != nil {
		if old == nil || old.prefix != e.lease.prefix {
			m.log.Infof("network: %s has %v", name, *e.lease)
		}
	}
	if err := changeLease(l, l.config, old, e.lease); err != nil {
		m.log.Warnf("network: %s: %v", name, err)
	}
	m.publish(l)
}

// forget drops a link that is not there any more.
func (m *manager) forget(l *link) {
	delete(m.links, l.Attrs().Index)
	if l.stop != nil {
		l.stop()
	}
	m.log.Infof("network: %s has gone", l.Attrs().Name)
	_ = os.Remove(filepath.Join(stateDir, l.Attrs().Name))
	m.publish(nil)
}

// publish writes what others read: the state of l if it is not nil, the name servers, and the host name if there is none yet.
func (m *manager) publish(l *link) {
	links := m.sorted()
	var errs []error
	if l != nil {
		errs = append(errs, writeAtomic(filepath.Join(stateDir, l.Attrs().Name), stateText(l)))
	}
	if text := resolvConf(m.config, links); text != "" {
		errs = append(errs, writeAtomic(resolvFile, text))
	}
	if now, err := os.Hostname(); err == nil && unnamed(now) {
		if name := nameOf(links); name != "" {
			errs = append(errs, os.NewSyscallError("sethostname", unix.Sethostname([]byte(name))))
		}
	}
	if err := errors.Join(errs...); err != nil {
		m.log.Warnf("network: %v", err)
	}
	m.checkReady()
}

// checkReady tells that the network is there once each entry of the Config has a link that has what it is to have.
func (m *manager) checkReady() {
	if m.ready == nil {
		return
	}
	for n, i := range m.config.Interfaces {
		if i.Method != Off && !slices.ContainsFunc(m.sorted(), func(l *link) bool { return l.entry == n && l.configured }) {
			return
		}
	}
	m.ready()
	m.ready = nil
}

// sorted returns the links by their index, the first one first.
func (m *manager) sorted() []*link {
	links := make([]*link, 0, len(m.links))
	for _, l := range m.links {
		links = append(links, l)
	}
	slices.SortFunc(links, func(a, b *link) int { return a.Attrs().Index - b.Attrs().Index })
	return links
}
