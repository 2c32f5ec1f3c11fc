package rootdev

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An identity is what the rules of udev know of a disk besides its contents and its place.
type identity struct {
	bus, serial string // ID_BUS, ID_SERIAL
	usb         string // ID_USB_SERIAL
	wwn         string // ID_WWN_WITH_EXTENSION
}

// identify returns the identity of an sd or sr disk.
func identify(disk node) identity {
	scsi := disk.up(func(n node) bool { return n.subsystem() == "scsi" && n.devtype() == "scsi_device" })
	if scsi.path == "" {
		return identity{}
	}
	var id identity
	usb, ata := disk.under("usb"), scsi.text("vendor") == "ATA"
	if ata || scsi.text("type") == "5" && scsi.text("scsi_level") >= "6" || usb && disk.text("removable") == "0" {
		id = ataIdentity(scsi)
	}
	if usb {
		if id.usb = usbSerial(disk, scsi); id.bus == "" && id.usb != "" {
			id.bus, id.serial = "usb", id.usb
		}
	}
	if id.serial == "" && !ata {
		var serial string
		serial, id.wwn = scsiSerial(scsi)
		id.bus, id.serial = "scsi", replaceChars(replaceSpace(serial, 255), "")
	}
	return id
}

// ataIdentity is ata_id of udev: the answer of the drive to IDENTIFY DEVICE, which the kernel keeps in the
// vital product data page 0x89 (SAT-3, section 12.4). Where that is missing, as for optical drives, page
// 0x83 has model and serial number, too: 8 bytes "ATA", 40 and 20.
func ataIdentity(scsi node) identity {
	const identifyAt, size = 60, 512
	var model, serial, wwn string
	if page := scsi.page("vpd_pg89"); len(page) >= identifyAt+size {
		words := page[identifyAt:]
		serial, model = unswapped(words[20:40]), unswapped(words[54:94])
		if name := unswapped(words[216:224]); name[0]>>4 == 5 {
			wwn = fmt.Sprintf("%#x", name)
		}
	} else {
		for _, d := range designators(scsi.page("vpd_pg83")) {
			switch {
			case d.kind == designatorT10 && len(d.id) == 68 && strings.HasPrefix(d.id, "ATA     "):
				model, serial = d.id[8:48], d.id[48:]
			case d.kind == designatorNAA && d.code == codeBinary && d.naa == 5 && len(d.id) == 8:
				wwn = fmt.Sprintf("%#x", d.id)
			}
		}
	}
	model, serial = replaceChars(replaceSpace(model, 40), ""), replaceChars(replaceSpace(serial, 20), "")
	switch {
	case model == "" && serial == "":
		return identity{}
	case serial != "":
		model += "_" + serial
	}
	return identity{bus: "ata", serial: model, wwn: wwn}
}

// unswapped exchanges the bytes of each pair: ATA has strings in 16-bit words, high byte first.
func unswapped(words []byte) string {
	b := slices.Clone(words)
	for i := 0; i+1 < len(b); i += 2 {
		b[i], b[i+1] = b[i+1], b[i]
	}
	return string(b)
}

// Types and code sets of designators (SPC-4, section 7.8.6).
const (
	designatorVendor = 0
	designatorT10    = 1
	designatorEUI64  = 2
	designatorNAA    = 3

	codeBinary = 1
	codeASCII  = 2
)

// A designator is one name of a logical unit in the vital product data page 0x83.
type designator struct {
	kind, code byte
	naa        byte // the first four bits of the identifier
	id         string
}

// designators returns those of the logical unit itself. udev reads no more than 254 bytes.
func designators(page []byte) []designator {
	if len(page) < 4 || page[1] != 0x83 {
		return nil
	}
	page = page[4:min(len(page), 254, 4+int(binary.BigEndian.Uint16(page[2:])))]
	var all []designator
	for len(page) >= 4 {
		end := 4 + int(page[3])
		if end > len(page) {
			break
		}
		if page[1]&0x30 == 0 && end > 4 {
			all = append(all, designator{page[1] & 0x0f, page[0] & 0x0f, page[4] >> 4, string(page[4:end])})
		}
		page = page[end:]
	}
	return all
}

// scsiSerial is scsi_id of udev: the best designator of page 0x83, else the serial number of page 0x80. The
// first character says of what kind it is. wwn is there for world wide names only.
func scsiSerial(scsi node) (serial, wwn string) {
	page := scsi.page("vpd_pg83")
	if len(page) >= 8 && page[1] == 0x83 && page[6] != 0 { // the format of SCSI-2
		return "3" + hex.EncodeToString(page[4:min(4+int(page[3]), len(page))]), ""
	}
	vendor, model := scsi.attr("vendor"), scsi.attr("model")
	named := len(vendor) == 8 && len(model) == 16
	best, rank := designator{}, -1
	for _, d := range designators(page) {
		if r := d.rank(); r > rank && (d.kind != designatorVendor || named) {
			best, rank = d, r
		}
	}
	if rank >= 0 {
		id := best.id
		if best.code == codeBinary {
			id = hex.EncodeToString([]byte(id))
		}
		id = cut([]byte(id))
		switch best.kind {
		case designatorNAA:
			wwn = "0x" + id[:min(len(id), 32)]
		case designatorVendor: // not unique without them
			id = vendor + model + id
		}
		return strconv.Itoa(int(best.kind)) + id, wwn
	}
	if page := scsi.page("vpd_pg80"); len(page) >= 4 && page[1] == 0x80 && named {
		return "S" + vendor + model + cut(page[4:min(4+int(page[3]), len(page))]), ""
	}
	return "", ""
}

// rank orders designators as scsi_id prefers them, -1 for those that it does not take: by kind, world wide
// names first, of those the extended before the registered ones, and binary ones before text.
func (d designator) rank() int {
	if d.kind > designatorNAA || d.code != codeBinary && d.code != codeASCII {
		return -1
	}
	rank := int(d.kind) * 8
	const extended, registered = 6, 5
	if d.kind == designatorNAA && d.naa == extended {
		rank += 4
	} else if d.kind == designatorNAA && d.naa == registered {
		rank += 2
	}
	return rank + codeASCII - int(d.code)
}

// usbSerial is usb_id of udev: vendor and model, of the SCSI device for mass storage, the serial number of
// the USB device, and target and unit.
func usbSerial(disk, scsi node) string {
	port := disk.above("usb", "usb_interface")
	device := port.above("usb", "usb_device")
	class, err := strconv.ParseUint(port.attr("bInterfaceClass"), 16, 8)
	if err != nil || device.attr("idVendor") == "" || device.attr("idProduct") == "" {
		return ""
	}
	const storage, most = 8, 63
	word := func(s string) string { return replaceChars(replaceSpace(s, most), "") }
	var vendor, model, unit string
	if kind := port.attr("bInterfaceSubClass"); class == storage && (kind == "06" || kind == "02") {
		if a, ok := scsiAddress(scsi.name()); ok {
			vendor, model = word(scsi.attr("vendor")), word(scsi.attr("model"))
			unit = fmt.Sprintf("-%d:%d", a[2], a[3])
		}
	}
	first := func(have string, names ...string) string {
		for _, name := range names {
			if have == "" {
				have = word(device.attr(name))
			}
		}
		return have
	}
	serial := first(vendor, "manufacturer", "idVendor") + "_" + first(model, "product", "idProduct")
	number := device.attr("serial")
	bad := func(c rune) bool { return c < 0x20 || c > 0x7f || c == ',' }
	if !strings.ContainsFunc(number, bad) && number != "" {
		serial += "_" + replaceChars(replaceSpace(number, 511), "")
	}
	return serial + unit
}
