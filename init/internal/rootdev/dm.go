package rootdev

import (
	"path"
	"strings"
)

// mapped returns the links of a device of the device mapper, which are those of lvm2 2.03.16 by its
// 55-dm.rules and 60-persistent-storage-dm.rules.
//
// udev learns from the program that makes a device which links it must not have. Without a udevd that
// program says nothing, but it marks the devices that are its own affair in their UUIDs, too.
func mapped(dev node, s Seen) []string {
	if s.Size == 0 {
		return nil // it has no table yet
	}
	n := &names{}
	name, uuid := replaceSpace(dev.attr("dm/name"), 511), replaceSpace(dev.attr("dm/uuid"), 511)
	n.below("mapper/", name)
	if name == "" || internal(uuid) {
		return n.links
	}
	n.add("by-id", "dm-name-"+name)
	if uuid != "" {
		n.add("by-id", "dm-uuid-"+uuid)
	}
	if dev.attr("dm/suspended") == "1" {
		return n.links // who reads it now waits
	}
	if s.Usage == Filesystem || s.Usage == Other || s.Usage == Crypto {
		n.add("by-uuid", encodeLink(s.UUID))
	}
	if s.Usage == Filesystem || s.Usage == Other {
		n.add("by-label", encodeLink(s.Label))
	}
	return n.links
}

// internal tells of the UUID of a mapped device whether it is part of another one: a layer of a logical
// volume (lib/activate/dev_manager.c of LVM), or what cryptsetup and stratisd keep for themselves.
func internal(uuid string) bool {
	if ids, ok := strings.CutPrefix(uuid, "LVM-"); ok {
		const group, volume = 32, 32
		return len(ids) > group+volume
	}
	for prefix := range strings.FieldsSeq("CRYPT-TEMP- CRYPT-SUBDEV- stratis-1-private-") {
		if strings.HasPrefix(uuid, prefix) {
			return true
		}
	}
	return false
}

// MappedEntry returns what udev's database of the real root has to say of a mapped device, and "" for any
// other one. 55-dm.rules of lvm2 believes an add event, such as a coldplug is, only of a device that the
// database has as activated, as if by a program of the device mapper that waited for udev. Without that the
// device has no links there, and a systemd waits for it in vain. What mapped takes for another device's own
// affair is marked so again.
func MappedEntry(sys SysFS, s Seen) string {
	if !strings.HasPrefix(path.Base(s.DevPath), "dm-") || s.Size == 0 {
		return ""
	}
	entry := "E:DM_UDEV_PRIMARY_SOURCE_FLAG=1\n"
	dev := node{sys, strings.TrimPrefix(s.DevPath, "/")}
	if internal(replaceSpace(dev.attr("dm/uuid"), 511)) {
		for rules := range strings.FieldsSeq("SUBSYSTEM DISK OTHER") {
			entry += "E:DM_UDEV_DISABLE_" + rules + "_RULES_FLAG=1\n"
		}
	}
	return entry
}
