package kvm

import (
	"testing"
	"time"
)

// underKVM makes m's CPUID that of a KVM guest, its interface starting at leaf.
func (m *fakeMachine) underKVM(leaf, features uint32) {
	m.cpuid[1] = [4]uint32{0, 0, hypervisorPresent, 0}
	m.cpuid[leaf] = [4]uint32{leaf + 1, 0x4b4d564b, 0x564b4d56, 0x4d}
	m.cpuid[leaf+1] = [4]uint32{features}
}

func TestKVMFeatures(t *testing.T) {
	m := newFakeMachine()
	if f := kvmFeatures(m); f != 0 {
		t.Errorf("bare metal: %#x", f)
	}
	m.underKVM(0x40000000, kvmFeatureClock2)
	if f := kvmFeatures(m); f != kvmFeatureClock2 {
		t.Errorf("KVM: %#x", f)
	}
	m = newFakeMachine()
	m.underKVM(0x40000100, kvmFeatureClock)
	m.cpuid[0x40000000] = [4]uint32{0x4000000a, 0x7263694d, 0x666f736f, 0x76482074} // "Microsoft Hv"
	if f := kvmFeatures(m); f != kvmFeatureClock {
		t.Errorf("KVM behind Hyper-V's interface: %#x", f)
	}
	m = newFakeMachine()
	m.cpuid[1] = [4]uint32{0, 0, hypervisorPresent, 0}
	m.cpuid[0x40000000] = [4]uint32{0x40000001, 0x54474354, 0x43544743, 0x47435447} // "TCGTCGTCGTCG"
	if f := kvmFeatures(m); f != 0 {
		t.Errorf("TCG: %#x", f)
	}
}

func TestTimeInfo(t *testing.T) {
	for _, test := range []struct {
		hz         uint64
		multiplier uint32
		shift      int8
	}{
		// As KVM's kvm_get_time_scale makes them: the multiplier is in [2^31, 2^32).
		{1_000_000_000, 1 << 31, 1},
		{3_000_000_000, 2863311531, -1},
		{2_400_000_000, 3579139413, -1},
		{800_000_000, 2684354560, 1},
	} {
		info := timeInfo{multiplier: test.multiplier, shift: test.shift}
		if got := info.frequency(); got < test.hz-2 || got > test.hz+2 {
			t.Errorf("frequency %d, want %d", got, test.hz)
		}
		if got := info.nanoseconds(10 * test.hz); got < 10e9-10 || got > 10e9+10 {
			t.Errorf("%d Hz: ten seconds are %d ns", test.hz, got)
		}
	}
	for _, hostile := range []timeInfo{{}, {multiplier: 1, shift: 127}, {multiplier: 1, shift: -128}, {multiplier: 1, shift: -32}} {
		if hz, ns := hostile.frequency(), hostile.nanoseconds(^uint64(0)); hz != 0 || ns > 1 {
			t.Errorf("%+v: %d Hz, %d ns", hostile, hz, ns)
		}
	}
}

func TestKVMClock(t *testing.T) {
	for _, test := range []struct {
		features     uint32
		wall, system uint32
	}{
		{kvmFeatureClock | kvmFeatureClock2 | kvmFeatureClockStable, msrWallClock, msrSystemTime},
		{kvmFeatureClock, msrWallClockOld, msrSystemOld},
	} {
		m := newFakeMachine()
		m.underKVM(0x40000000, test.features)
		// KVM fills the page when the MSR is written; the fake has it there already.
		page := m.ram[m.nextPage:]
		le.PutUint32(page[0:], 2)
		le.PutUint64(page[8:], 5_000_000_000)
		le.PutUint64(page[16:], 7_000_000_000)
		le.PutUint32(page[24:], 1<<31)
		page[28] = 1
		le.PutUint32(page[wallClockAt:], 4)
		le.PutUint32(page[wallClockAt+4:], 1_700_000_000)
		le.PutUint32(page[wallClockAt+8:], 500)
		m.tsc = 6_000_000_000
		pa := m.nextPage
		k := startFake(t, m)
		c := k.KVMClock()
		if c == nil {
			t.Fatal("no clock")
		}
		if m.msr[test.system] != pa|1 {
			t.Errorf("system time MSR %#x", m.msr[test.system])
		}
		if hz, ok := c.TSCFrequency(); hz != 1_000_000_000 || !ok {
			t.Errorf("%d Hz, %v", hz, ok)
		}
		if want := test.features&kvmFeatureClockStable != 0; c.StableTSC() != want {
			t.Errorf("stable: %v", c.StableTSC())
		}
		now, err := k.WallClock()
		if want := time.Unix(1_700_000_008, 500); err != nil || !now.Equal(want) {
			t.Errorf("%v, %v, want %v", now, err, want)
		}
		if m.msr[test.wall] != pa+wallClockAt {
			t.Errorf("wall clock MSR %#x", m.msr[test.wall])
		}

		// A clock in the middle of an update for ever: the RTC steps in.
		m.rtc.set(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
		le.PutUint32(page[0:], 3)
		if now, err = k.WallClock(); err != nil || now.Year() != 2026 {
			t.Errorf("%v, %v", now, err)
		}
	}
}
