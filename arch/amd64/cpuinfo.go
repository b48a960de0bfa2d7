package amd64

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// The names of features in /proc/cpuinfo, by the bits of CPUID (Intel SDM vol. 2, CPUID; AMD APM vol. 3,
// appendix E; Linux: arch/x86/include/asm/cpufeatures.h for the names and their order).
var featureWords = [...]struct {
	leaf, sub uint32
	register  int // eax, ebx, ecx, edx
	names     string
}{
	{1, 0, 3, "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe"},
	{0x80000001, 0, 3, "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow"},
	{1, 0, 2, "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave - avx f16c rdrand hypervisor"},
	{0x80000001, 0, 2, "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc perfctr_llc mwaitx"},
	{7, 0, 1, "fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm cqm - mpx rdt_a avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl"},
	{13, 1, 0, "xsaveopt xsavec xgetbv1 xsaves"},
	{7, 0, 2, "- avx512vbmi umip pku ospke waitpkg avx512_vbmi2 - gfni vaes vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid - bus_lock_detect cldemote - movdiri movdir64b enqcmd"},
	{7, 0, 3, "- - - - fsrm"},
}

// CPUInfo returns /proc/cpuinfo of a machine with one CPU whose TSC counts at hz, from what cpuid
// answers.
func CPUInfo(cpuid func(leaf, sub uint32) (eax, ebx, ecx, edx uint32), hz uint64) string {
	highest, b, c, d := cpuid(0, 0)
	text := func(words ...uint32) string {
		var s []byte
		for _, w := range words {
			s = binary.LittleEndian.AppendUint32(s, w)
		}
		return strings.TrimSpace(strings.TrimRight(string(s), "\x00"))
	}
	vendor := text(b, d, c)
	signature, misc, _, _ := cpuid(1, 0)
	family, model := signature>>8&15, signature>>4&15
	if family == 15 {
		family += signature >> 20 & 0xff
	}
	if family >= 6 {
		model |= signature >> 16 & 15 << 4
	}
	extended, _, _, _ := cpuid(0x80000000, 0)
	name := "unknown"
	if extended >= 0x80000004 {
		var words []uint32
		for leaf := uint32(0x80000002); leaf <= 0x80000004; leaf++ {
			a, b, c, d := cpuid(leaf, 0)
			words = append(words, a, b, c, d)
		}
		name, _, _ = strings.Cut(text(words...), "\x00")
		name = strings.TrimSpace(name)
	}
	physical, virtual := uint32(36), uint32(48)
	if extended >= 0x80000008 {
		a, _, _, _ := cpuid(0x80000008, 0)
		physical, virtual = a&0xff, a>>8&0xff
	}
	cache := uint32(0)
	if extended >= 0x80000006 {
		_, _, c, _ := cpuid(0x80000006, 0)
		cache = c >> 16
	}
	flush := misc >> 8 & 0xff * 8
	if flush == 0 {
		flush = 64
	}
	var flags []string
	for _, w := range featureWords {
		if w.leaf < 0x80000000 && w.leaf > highest || w.leaf >= 0x80000000 && w.leaf > extended {
			continue
		}
		a, b, c, d := cpuid(w.leaf, w.sub)
		v := [...]uint32{a, b, c, d}[w.register]
		for i, feature := range strings.Fields(w.names) {
			if v>>i&1 != 0 && feature != "-" {
				flags = append(flags, feature)
			}
		}
	}
	khz := hz / 1000
	var out strings.Builder
	fmt.Fprintf(&out, "processor\t: 0\nvendor_id\t: %s\ncpu family\t: %d\nmodel\t\t: %d\nmodel name\t: %s\nstepping\t: %d\n", vendor, family, model, name, signature&15)
	fmt.Fprintf(&out, "cpu MHz\t\t: %d.%03d\ncache size\t: %d KB\nphysical id\t: 0\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\napicid\t\t: 0\ninitial apicid\t: 0\n", khz/1000, khz%1000, cache)
	fmt.Fprintf(&out, "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: %d\nwp\t\t: yes\nflags\t\t: %s\nbugs\t\t:\n", highest, strings.Join(flags, " "))
	bogo := khz * 2
	fmt.Fprintf(&out, "bogomips\t: %d.%02d\nclflush size\t: %d\ncache_alignment\t: %d\naddress sizes\t: %d bits physical, %d bits virtual\npower management:\n\n", bogo/1000, bogo/10%100, flush, flush, physical, virtual)
	return out.String()
}
