package procfs

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"elver/kernel"
	"elver/kernel/mm"
	"elver/runtime/metal"
	"elver/vfs"
	"elver/vfs/aio"
	"elver/vfs/event"
	"elver/vfs/mqueue"
)

// What uname(2) says.
const (
	OSType    = "Linux"
	OSRelease = "6.12.0-elver"
	OSVersion = "#1 SMP PREEMPT_DYNAMIC Elver"
)

// value adds a file with a value that can be written and read back. set refuses bad values and does what the
// value means. It is nil for hints, which change nothing that a program sees: how memory is written back and
// swapped (nothing is), how long it may take, what a console shows.
func (d *dir) value(name, initial string, set func(c *vfs.Context, v string) error) {
	d.kept(name, initial, func(v string) string { return v }, func(c *vfs.Context, v string) error {
		if set == nil {
			return nil
		}
		return set(c, v)
	})
}

// choice adds a file that shows words, the one in force in brackets, and takes one of them.
func (d *dir) choice(name string, words []string, initial string, set func(v string)) {
	show := func(v string) string {
		shown := slices.Clone(words)
		shown[slices.Index(words, v)] = "[" + v + "]"
		return strings.Join(shown, " ")
	}
	d.kept(name, initial, show, func(_ *vfs.Context, v string) error {
		if !slices.Contains(words, v) {
			return unix.EINVAL
		}
		set(v)
		return nil
	})
}

// kept adds a file that shows what was written last, unless take refuses it.
func (d *dir) kept(name, initial string, show func(v string) string, take func(c *vfs.Context, v string) error) {
	f := d.FS().(*FS)
	key := fmt.Sprintf("%d/%s", d.Ino(), name)
	f.values[key] = initial
	t := d.file(name, func(*vfs.Context) string {
		f.mu.Lock()
		defer f.mu.Unlock()
		return show(f.values[key]) + "\n"
	})
	t.writable(func(c *vfs.Context, v string) error {
		v = strings.TrimRight(v, "\n")
		if err := take(c, v); err != nil {
			return err
		}
		f.mu.Lock()
		f.values[key] = v
		f.mu.Unlock()
		return nil
	})
}

func (d *dir) constant(name, value string) {
	d.file(name, func(*vfs.Context) string { return value + "\n" })
}

func (f *FS) uuid() string {
	var u [16]byte
	if f.config.Random != nil {
		f.config.Random(u[:])
	}
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// addGlobal fills /proc with what belongs to no process.
func (f *FS) addGlobal(top *dir) {
	k := f.config.Kernel
	if len(f.config.Elver) > 0 {
		own := top.sub("elver")
		for name, content := range f.config.Elver {
			t := own.file(name, func(*vfs.Context) string { return content() })
			t.BaseInode.SetAttr(nil, &vfs.SetAttr{Valid: vfs.SetMode, Mode: 0o400}) // it has the kernel's addresses
		}
	}
	// On Linux the directory is a process's, and this one a link.
	if len(f.config.Net) > 0 {
		own := top.sub("net")
		for name, content := range f.config.Net {
			own.file(name, func(*vfs.Context) string { return content() })
		}
		for name, files := range f.config.NetFolders {
			folder := own.sub(name)
			folder.fill = func() {
				for name, content := range files() {
					folder.file(name, func(*vfs.Context) string { return content() })
				}
			}
		}
	}
	top.constant("cmdline", f.config.CommandLine)
	top.file("cpuinfo", func(*vfs.Context) string {
		if f.config.CPUInfo != nil {
			return f.config.CPUInfo()
		}
		return "processor\t: 0\n\n"
	})
	top.constant("consoles", "ttyS0                -W- (EC   p)    4:64")
	top.constant("devices", "Character devices:\n  1 mem\n  4 tty\n  4 ttyS\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n128 ptm\n136 pts\n\nBlock devices:")
	top.constant("interrupts", "           CPU0       \n  4:          0   IO-APIC   4-edge      ttyS0")
	top.constant("partitions", "major minor  #blocks  name\n")
	top.file("vmstat", func(*vfs.Context) string { return vmstat() })
	top.file("filesystems", func(c *vfs.Context) string {
		var b strings.Builder
		names := c.Files.Namespace().Types()
		sort.Strings(names)
		for _, n := range names {
			fmt.Fprintf(&b, "nodev\t%s\n", n)
		}
		return b.String()
	})
	top.file("loadavg", func(c *vfs.Context) string {
		tasks, runnable := 1, 1
		if k != nil {
			tasks, runnable = k.Counts()
		}
		last := int32(1)
		if c.Thread != nil {
			last = c.Thread.TID
		}
		return fmt.Sprintf("0.00 0.00 0.00 %d/%d %d\n", runnable, tasks, last)
	})
	top.file("meminfo", func(*vfs.Context) string { return meminfo() })
	top.put("mounts", f.newLink(f.newIno(), func(*vfs.Context) (string, error) { return "self/mounts", nil }))
	top.file("stat", func(*vfs.Context) string { return f.stat() })
	top.constant("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority")
	top.file("uptime", func(*vfs.Context) string {
		ns := kernel.Monotonic()
		idle := metal.IdleTime()
		return fmt.Sprintf("%d.%02d %d.%02d\n", ns/1e9, ns/1e7%100, idle/1e9, idle/1e7%100)
	})
	top.constant("version", OSType+" version "+OSRelease+" (elver@elver) (go) "+OSVersion)

	sys := top.sub("sys")
	kern := sys.sub("kernel")
	kern.constant("ostype", OSType)
	kern.constant("osrelease", OSRelease)
	kern.constant("version", OSVersion)
	f.machineName(kern, "hostname", func() string { h, _ := k.Hostname(); return h }, (*kernel.Kernel).SetHostname)
	f.machineName(kern, "domainname", func() string { _, d := k.Hostname(); return d }, (*kernel.Kernel).SetDomainname)
	kern.fixed("pid_max", "4194304")
	kern.fixed("threads-max", fmt.Sprint(metal.Frames().Total/8))
	kern.constant("cap_last_cap", fmt.Sprint(unix.CAP_LAST_CAP))
	kern.constant("ngroups_max", "65536")
	addCore(kern, k)
	kern.fixed("randomize_va_space", "2")
	kern.value("sched_rt_runtime_us", "950000", nil)
	kern.fixed("shmmax", "18446744073692774399")
	kern.fixed("shmall", "18446744073692774399")
	kern.fixed("shmmni", "4096")
	addSysV(top, kern)
	kern.constant("overflowuid", "65534")
	kern.constant("overflowgid", "65534")
	kern.value("perf_event_paranoid", "2", nil)
	kern.fixed("unprivileged_bpf_disabled", "2")
	kern.value("panic", "0", nil)
	kern.value("printk", "4\t4\t1\t7", nil)
	random := kern.sub("random")
	random.constant("boot_id", f.bootID)
	random.file("uuid", func(*vfs.Context) string { return f.uuid() + "\n" })
	random.constant("entropy_avail", "256")
	random.constant("poolsize", "256")

	vm := sys.sub("vm")
	vm.value("overcommit_memory", "0", func(_ *vfs.Context, v string) error {
		if v != "0" && v != "1" { // 2 would be strict
			return unix.EINVAL
		}
		mm.OvercommitAlways.Store(v == "1")
		return nil
	})
	vm.fixed("overcommit_ratio", "50")
	vm.numbers("max_map_count", 1, func() []int { return []int{mm.MaxMapCount()} }, func(v []int) error {
		if v[0] < 0 {
			return unix.EINVAL
		}
		mm.SetMaxMapCount(v[0])
		return nil
	})
	vm.fixed("mmap_min_addr", fmt.Sprint(mm.MinAddr))
	vm.value("swappiness", "60", nil)
	vm.value("dirty_ratio", "20", nil)
	vm.value("dirty_background_ratio", "10", nil)
	vm.fixed("nr_hugepages", "0")
	vm.value("drop_caches", "0", f.dropCaches)

	fs := sys.sub("fs")
	fs.fixed("file-max", "9223372036854775807")
	fs.fixed("nr_open", "1048576")
	fs.numbers("pipe-max-size", 1, func() []int { return []int{int(vfs.MaxPipeSize.Load())} }, func(v []int) error { return vfs.SetMaxPipeSize(int64(v[0])) })
	fs.fixed("pipe-user-pages-soft", "16384")
	fs.fixed("pipe-user-pages-hard", "0")
	fs.constant("file-nr", "64\t0\t9223372036854775807")
	for _, l := range event.InotifyLimits {
		fs.sub("inotify").numbers(l.Name, 1, func() []int { return []int{l.Get()} }, func(v []int) error { return l.Set(v[0]) })
	}
	fs.sub("epoll").fixed("max_user_watches", "1048576")
	fs.fixed("protected_symlinks", "0")
	fs.fixed("protected_hardlinks", "0")
	fs.fixed("aio-max-nr", "65536")
	fs.file("aio-nr", func(*vfs.Context) string { return fmt.Sprintln(aio.Requested()) })
	fs.fixed("suid_dumpable", "0")
	for _, l := range mqueue.Limits {
		fs.sub("mqueue").numbers(l.Name, 1, func() []int { return []int{int(l.Get())} }, func(v []int) error { return l.Set(int64(v[0])) })
	}
	kern.sub("pty").constant("max", "4096")
	kern.sub("keys").fixed("maxkeys", "200")
	kern.value("sched_child_runs_first", "0", nil)
	kern.value("sched_rt_period_us", "1000000", nil)
	kern.value("sched_autogroup_enabled", "0", nil)
	kern.fixed("dmesg_restrict", "1")
	kern.fixed("kptr_restrict", "1")
	kern.fixed("tainted", "0")
	kern.fixed("core_pipe_limit", "0")
	kern.value("hung_task_timeout_secs", "0", nil)
	kern.sub("yama").fixed("ptrace_scope", "0")
	kern.sub("seccomp").constant("actions_avail", "kill_process kill_thread trap errno trace log allow")
	vm.fixed("overcommit_kbytes", "0")
	vm.value("dirty_bytes", "0", nil)
	vm.value("dirty_background_bytes", "0", nil)
	vm.value("dirty_expire_centisecs", "3000", nil)
	vm.value("dirty_writeback_centisecs", "500", nil)
	vm.fixed("min_free_kbytes", fmt.Sprint(metal.Frames().Reserve*metal.FrameSize/1024))
	vm.fixed("panic_on_oom", "0")
	vm.fixed("oom_kill_allocating_task", "0")
	vm.value("vfs_cache_pressure", "100", nil)
	vm.value("zone_reclaim_mode", "0", nil)
	vm.fixed("nr_overcommit_hugepages", "0")
	vm.value("page-cluster", "3", nil)
	vm.fixed("legacy_va_layout", "0")

	net := sys.sub("net")
	folder := func(path string) *dir {
		d := net
		for part := range strings.SplitSeq(path, "/") {
			d = d.sub(part)
		}
		return d
	}
	for path, values := range netValues {
		d := folder(path)
		for _, v := range values {
			if !slices.ContainsFunc(f.config.NetSettings, func(s Setting) bool { return s.Path == path+"/"+v[0] }) {
				d.fixed(v[0], v[1])
			}
		}
	}
	for _, s := range f.config.NetSettings {
		at := strings.LastIndexByte(s.Path, '/')
		folder(s.Path[:at]).numbers(s.Path[at+1:], s.Count, s.Get, s.Set)
	}
}

// fixed adds a file that can be written only with what it says already, as who saves and restores it does: EINVAL otherwise.
func (d *dir) fixed(name, value string) {
	d.file(name, func(*vfs.Context) string { return value + "\n" }).writable(func(_ *vfs.Context, v string) error {
		if !slices.Equal(strings.Fields(v), strings.Fields(value)) {
			return unix.EINVAL
		}
		return nil
	})
}

// netValues are the files of /proc/sys/net by folder, but for NetSettings. What they say is fixed.
var netValues = map[string][][2]string{
	"core": {
		{"somaxconn", "4096"}, {"rmem_default", "212992"}, {"rmem_max", "212992"}, {"wmem_default", "212992"}, {"wmem_max", "212992"},
		{"optmem_max", "131072"}, {"netdev_max_backlog", "1000"}, {"default_qdisc", "pfifo_fast"}, {"busy_poll", "0"}, {"busy_read", "0"},
	},
	"ipv4": {
		{"ip_local_port_range", "32768\t60999"}, {"ip_unprivileged_port_start", "1024"}, {"ip_forward", "0"}, {"ip_default_ttl", "64"},
		{"ip_nonlocal_bind", "0"}, {"ip_local_reserved_ports", ""}, {"ip_no_pmtu_disc", "0"}, {"ping_group_range", "0\t2147483647"},
		{"icmp_echo_ignore_all", "0"}, {"icmp_echo_ignore_broadcasts", "1"}, {"tcp_syncookies", "1"}, {"tcp_max_syn_backlog", "4096"},
		{"tcp_rmem", "4096\t262144\t4194304"}, {"tcp_wmem", "4096\t262144\t4194304"}, {"tcp_sack", "1"}, {"tcp_timestamps", "1"},
		{"tcp_window_scaling", "1"}, {"tcp_congestion_control", "cubic"}, {"tcp_available_congestion_control", "reno cubic"},
		{"tcp_allowed_congestion_control", "reno cubic"}, {"tcp_keepalive_time", "7200"}, {"tcp_keepalive_intvl", "75"},
		{"tcp_keepalive_probes", "9"}, {"tcp_fin_timeout", "60"}, {"tcp_syn_retries", "6"}, {"tcp_synack_retries", "5"},
		{"tcp_retries1", "3"}, {"tcp_retries2", "15"}, {"tcp_fastopen", "0"}, {"tcp_tw_reuse", "2"}, {"tcp_ecn", "0"},
		{"tcp_moderate_rcvbuf", "1"}, {"tcp_slow_start_after_idle", "1"}, {"tcp_mem", "22800\t30400\t45600"}, {"udp_mem", "45600\t60800\t91200"},
		{"tcp_max_tw_buckets", "8192"}, {"tcp_abort_on_overflow", "0"}, {"tcp_mtu_probing", "0"}, {"tcp_no_metrics_save", "0"},
	},
	"ipv6":               {{"bindv6only", "0"}, {"ip_nonlocal_bind", "0"}},
	"ipv6/conf/all":      {{"disable_ipv6", "0"}, {"forwarding", "0"}, {"accept_ra", "1"}, {"hop_limit", "64"}},
	"ipv6/conf/default":  {{"disable_ipv6", "0"}, {"forwarding", "0"}, {"accept_ra", "1"}, {"hop_limit", "64"}},
	"ipv6/conf/lo":       {{"disable_ipv6", "0"}, {"forwarding", "0"}, {"hop_limit", "64"}},
	"ipv4/conf/all":      {{"forwarding", "0"}, {"rp_filter", "0"}, {"accept_redirects", "1"}, {"arp_ignore", "0"}, {"arp_announce", "0"}},
	"ipv4/conf/default":  {{"forwarding", "0"}, {"rp_filter", "0"}, {"accept_redirects", "1"}, {"arp_ignore", "0"}, {"arp_announce", "0"}},
	"ipv4/neigh/default": {{"gc_thresh1", "128"}, {"gc_thresh2", "512"}, {"gc_thresh3", "1024"}},
	"unix":               {{"max_dgram_qlen", "10"}},
}

func (f *FS) cpuTime() (user, system int64) {
	if f.config.Kernel == nil {
		return 0, 0
	}
	for _, p := range f.config.Kernel.Processes() {
		u, s := p.CPUTime()
		user += u
		system += s
	}
	return user, system
}

func (f *FS) stat() string {
	user, system := f.cpuTime()
	now := kernel.Monotonic()
	idle := metal.IdleTime()
	line := fmt.Sprintf("%d 0 %d %d 0 0 0 0 0 0", ticks(user), ticks(system), ticks(idle))
	runnable := 1
	if f.config.Kernel != nil {
		_, runnable = f.config.Kernel.Counts()
	}
	return fmt.Sprintf("cpu  %s\ncpu0 %s\nintr 0\nctxt 0\nbtime %d\nprocesses 1\nprocs_running %d\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
		line, line, (kernel.Realtime()-now)/1e9, runnable)
}

func meminfo() string {
	s := metal.Frames()
	kib := func(frames uint64) uint64 { return frames * (metal.FrameSize / 1024) }
	total := s.Total - s.ByOwner[metal.OwnerBalloon] // what the host has borrowed isn't the machine's
	cached := s.ByOwner[metal.OwnerPageCache]
	available := s.Free - min(s.Free, s.Reserve)
	var b strings.Builder
	for _, l := range []struct {
		name string
		kib  uint64
	}{
		{"MemTotal", kib(total)}, {"MemFree", kib(s.Free)}, {"MemAvailable", kib(available)}, {"Buffers", 0},
		{"Cached", kib(cached)}, {"SwapCached", 0}, {"Active", kib(s.ByOwner[metal.OwnerProgram])}, {"Inactive", 0},
		{"Active(anon)", kib(s.ByOwner[metal.OwnerProgram])}, {"Inactive(anon)", 0}, {"Active(file)", 0}, {"Inactive(file)", 0},
		{"Unevictable", 0}, {"Mlocked", 0}, {"SwapTotal", 0}, {"SwapFree", 0}, {"Dirty", 0}, {"Writeback", 0},
		{"AnonPages", kib(s.ByOwner[metal.OwnerProgram])}, {"Mapped", 0}, {"Shmem", kib(cached)},
		{"KReclaimable", 0}, {"Slab", kib(s.ByOwner[metal.OwnerGoHeap])}, {"SReclaimable", 0},
		{"SUnreclaim", kib(s.ByOwner[metal.OwnerGoHeap])}, {"KernelStack", 0}, {"PageTables", kib(s.ByOwner[metal.OwnerPageTable])},
		{"CommitLimit", kib(s.Total)}, {"Committed_AS", mm.Committed() / 1024}, {"VmallocTotal", 0}, {"VmallocUsed", 0},
		{"AnonHugePages", kib(s.Huge)},
	} {
		fmt.Fprintf(&b, "%-15s %8d kB\n", l.name+":", l.kib)
	}
	b.WriteString("HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\nHugepagesize:       2048 kB\nHugetlb:               0 kB\n")
	return b.String()
}

// dropCaches is /proc/sys/vm/drop_caches (proc_sys_vm(5)): 1 gives back pages of files, 2 names and what is known of
// them, 3 both; 4 means to do so without a word in the log.
func (f *FS) dropCaches(c *vfs.Context, v string) error {
	what, err := strconv.Atoi(v)
	if err != nil || what < 1 || what > 4 {
		return unix.EINVAL
	}
	if what&1 != 0 {
		mm.ReclaimCaches(math.MaxInt)
	}
	if what&2 != 0 {
		c.Files.Namespace().EvictDentries()
		if f.config.DropNames != nil {
			f.config.DropNames()
		}
	}
	return nil
}

// machineName adds a name of the machine, which uname(2) shows too.
func (f *FS) machineName(d *dir, file string, get func() string, set func(k *kernel.Kernel, name string)) {
	k := f.config.Kernel
	if k == nil {
		return
	}
	d.file(file, func(*vfs.Context) string { return get() + "\n" }).writable(func(c *vfs.Context, v string) error {
		if !c.Creds.HasCap(unix.CAP_SYS_ADMIN) {
			return unix.EPERM
		}
		v, _, _ = strings.Cut(v, "\n")
		set(k, v)
		return nil
	})
}

func vmstat() string {
	s := metal.Frames()
	var b strings.Builder
	for _, l := range []struct {
		name string
		n    uint64
	}{
		{"nr_free_pages", s.Free}, {"nr_zone_inactive_anon", 0}, {"nr_zone_active_anon", s.ByOwner[metal.OwnerProgram]},
		{"nr_inactive_anon", 0}, {"nr_active_anon", s.ByOwner[metal.OwnerProgram]}, {"nr_inactive_file", 0},
		{"nr_active_file", s.ByOwner[metal.OwnerPageCache]}, {"nr_unevictable", 0}, {"nr_mlock", 0},
		{"nr_anon_pages", s.ByOwner[metal.OwnerProgram]}, {"nr_mapped", 0}, {"nr_file_pages", s.ByOwner[metal.OwnerPageCache]},
		{"nr_dirty", 0}, {"nr_writeback", 0}, {"nr_shmem", 0}, {"nr_page_table_pages", s.ByOwner[metal.OwnerPageTable]},
		{"nr_kernel_stack", 0}, {"pgpgin", 0}, {"pgpgout", 0}, {"pswpin", 0}, {"pswpout", 0}, {"pgfault", 0}, {"pgmajfault", 0},
		{"oom_kill", 0},
	} {
		fmt.Fprintf(&b, "%s %d\n", l.name, l.n)
	}
	return b.String()
}

// addCgroup makes the root of a control group hierarchy, version 2, with the files that runtimes read to
// learn how much they may use: everything there is.
func addCgroup(d *dir) {
	frames := func(*vfs.Context) string {
		s := metal.Frames()
		return fmt.Sprintln((s.Total - s.Free) * metal.FrameSize)
	}
	d.constant("cgroup.controllers", "cpuset cpu io memory pids")
	d.constant("cgroup.max.depth", "max")
	d.constant("cgroup.max.descendants", "max")
	d.constant("cgroup.procs", "1")
	d.constant("cgroup.stat", "nr_descendants 0\nnr_dying_descendants 0")
	d.constant("cgroup.subtree_control", "")
	d.constant("cgroup.type", "domain")
	d.constant("cpu.max", "max 100000")
	d.constant("cpu.weight", "100")
	d.constant("cpuset.cpus.effective", "0")
	d.constant("cpuset.mems.effective", "0")
	d.constant("memory.high", "max")
	d.constant("memory.max", "max")
	d.constant("memory.min", "0")
	d.constant("memory.swap.max", "max")
	d.constant("memory.swap.current", "0")
	d.constant("pids.max", "max")
	d.file("memory.current", frames)
}

// addSys fills /sys.
func (f *FS) addSys(top *dir) {
	cpu := top.sub("devices").sub("system").sub("cpu")
	for _, n := range []string{"online", "possible", "present"} {
		cpu.constant(n, "0")
	}
	cpu.constant("offline", "")
	cpu.constant("kernel_max", "0")
	topology := cpu.sub("cpu0").sub("topology")
	for _, n := range []string{"core_id", "physical_package_id", "thread_siblings_list", "core_siblings_list", "core_cpus_list", "package_cpus_list"} {
		topology.constant(n, "0")
	}
	for _, n := range []string{"thread_siblings", "core_siblings", "core_cpus", "package_cpus"} {
		topology.constant(n, "1")
	}
	node := top.sub("devices").sub("system").sub("node")
	for _, n := range []string{"online", "possible", "has_cpu", "has_memory", "has_normal_memory"} {
		node.constant(n, "0")
	}
	node.sub("node0").constant("cpulist", "0")
	node.sub("node0").constant("cpumap", "1")
	huge := top.sub("kernel").sub("mm").sub("transparent_hugepage")
	policies := map[string]mm.LargePolicy{"always": mm.LargeAlways, "madvise": mm.LargeMadvise, "never": mm.LargeNever}
	huge.choice("enabled", []string{"always", "madvise", "never"}, "madvise", func(v string) { mm.SetLargePolicy(policies[v]) })
	huge.constant("defrag", "always defer defer+madvise madvise [never]") // no frames are moved to make room for a large page
	huge.constant("hpage_pmd_size", "2097152")
	huge.constant("use_zero_page", "0")
	huge.constant("shmem_enabled", "always within_size advise [never] deny force")
	top.sub("kernel").sub("mm").sub("hugepages")
	addCgroup(top.sub("fs").sub("cgroup"))
	cpu.constant("isolated", "")
	cpu.constant("nohz_full", "  (null)")
	cpu0 := cpu.sub("cpu0")
	for level, c := range [...]struct{ kind, size string }{{"Data", "32K"}, {"Instruction", "32K"}, {"Unified", "1024K"}} {
		index := cpu0.sub("cache").sub(fmt.Sprintf("index%d", level))
		index.constant("type", c.kind)
		index.constant("size", c.size)
		index.constant("level", fmt.Sprint(1+level/2))
		index.constant("coherency_line_size", "64")
		index.constant("shared_cpu_list", "0")
		index.constant("shared_cpu_map", "1")
	}
	node.sub("node0").file("meminfo", func(*vfs.Context) string {
		var b strings.Builder
		for line := range strings.Lines(meminfo()) {
			b.WriteString("Node 0 " + line)
		}
		return b.String()
	})
	node.sub("node0").constant("distance", "10")
	for _, name := range []string{"2048kB"} {
		pages := top.sub("kernel").sub("mm").sub("hugepages").sub("hugepages-" + name)
		for _, n := range []string{"nr_hugepages", "nr_overcommit_hugepages"} {
			pages.value(n, "0", nil)
		}
		pages.constant("free_hugepages", "0")
		pages.constant("resv_hugepages", "0")
		pages.constant("surplus_hugepages", "0")
	}
	huge.sub("khugepaged").constant("defrag", "0")
	top.sub("class").sub("net")
	top.sub("block")
	top.sub("bus")
	top.sub("dev")
	for _, name := range []string{"devices", "class", "bus"} {
		top.sub(name).fill = func() { f.devicesOnce.Do(func() { f.addDevices(top) }) }
	}
}

// addDevices adds to /sys what is of devices.
func (f *FS) addDevices(top *dir) {
	if f.devices == nil {
		return
	}
	for _, e := range f.devices() {
		d, path := top, e.Path
		for {
			name, rest, more := strings.Cut(path, "/")
			if !more {
				break
			}
			d, path = d.sub(name), rest
		}
		if e.Target != "" {
			d.put(path, f.newLink(f.newIno(), func(*vfs.Context) (string, error) { return e.Target, nil }))
			continue
		}
		t := f.newText(f.newIno(), 0o444, func(*vfs.Context) ([]byte, error) {
			s, err := e.Get()
			return []byte(s), err
		})
		if e.Set != nil {
			t.writable(e.Set)
		}
		d.put(path, t)
	}
}
