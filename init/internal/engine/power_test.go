package engine

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// attribute lays out one netlink attribute.
func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(b)&3)...)
}

// event is a message of ACPI about a device of that class.
func event(class string) []byte {
	value := make([]byte, 44) // class, bus id, type, data
	copy(value, class)
	copy(value[20:], "PNP0C0C:00")
	return append(make([]byte, genlHeader), attribute(1, value)...)
}

// E3: the power button is told from all else that ACPI devices say.
func TestE3PowerButton(t *testing.T) {
	t.Parallel()
	if !powerPressed(event("button/power")) {
		t.Error("the power button is not recognised")
	}
	for _, class := range []string{"button/sleep", "button/lid", "ac_adapter", "button/power-no", "", "button/powerxxxxxxxxxxxxx"} {
		if powerPressed(event(class)) {
			t.Errorf("%q is taken for the power button", class)
		}
	}
	whole := event("button/power")
	for n := range len(whole) - 1 {
		if powerPressed(whole[:n]) {
			t.Errorf("%d of %d bytes are taken for the power button", n, len(whole))
		}
	}
}

func TestMcastGroup(t *testing.T) {
	t.Parallel()
	name := attribute(unix.CTRL_ATTR_MCAST_GRP_NAME, []byte("acpi_mc_group\x00"))
	id := attribute(unix.CTRL_ATTR_MCAST_GRP_ID, binary.NativeEndian.AppendUint32(nil, 9))
	one := attribute(1|unix.NLA_F_NESTED, append(name, id...))
	msg := append(make([]byte, genlHeader), attribute(unix.CTRL_ATTR_FAMILY_NAME, []byte("acpi_event\x00"))...)
	msg = append(msg, attribute(unix.CTRL_ATTR_MCAST_GROUPS|unix.NLA_F_NESTED, one)...)
	if group, ok := mcastGroup(msg); group != 9 || !ok {
		t.Errorf("mcastGroup = %d, %v", group, ok)
	}
	if _, ok := mcastGroup(make([]byte, 36)); ok { // struct nlmsgerr
		t.Error("an error message has a group")
	}
}

func FuzzPower(f *testing.F) {
	f.Add(event("button/power"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, msg []byte) {
		powerPressed(msg)
		mcastGroup(msg)
	})
}
