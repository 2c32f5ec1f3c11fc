package engine

import "github.com/vishvananda/netlink"

// loopbackUp brings the loopback interface up for whoever works in the image.
// A real root does that for itself.
func (e *engine) loopbackUp() {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		e.log.Debugf("lo: %v", err)
	}
}
