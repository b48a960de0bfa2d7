package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// lookUpUser makes elver.user's value of USER[:GROUP], by the root's own passwd(5) and group(5), and returns
// the user's home.
func (s *subject) lookUpUser(v string) (ids, home string, err error) {
	user, group, hasGroup := strings.Cut(v, ":")
	passwd, _ := s.readFile("etc/passwd")
	groups, _ := s.readFile("etc/group")
	uid, gid, name := "", "0", ""
	if _, err := strconv.ParseUint(user, 10, 32); err == nil {
		uid = user
	}
	for _, fields := range table(passwd, 7) {
		if fields[0] == user || uid != "" && fields[2] == uid {
			name, uid, gid, home = fields[0], fields[2], fields[3], fields[5]
			break
		}
	}
	if uid == "" && user == "root" {
		uid = "0"
	}
	if uid == "" {
		return "", "", fmt.Errorf("there is no user %q in /etc/passwd of %s: give a number (-u UID:GID)", user, s.name)
	}
	var also []string
	if hasGroup {
		gid = ""
		if _, err := strconv.ParseUint(group, 10, 32); err == nil {
			gid = group
		}
	}
	for _, fields := range table(groups, 4) {
		if hasGroup && gid == "" && fields[0] == group {
			gid = fields[2]
		}
		if !hasGroup && name != "" && slices.Contains(strings.Split(fields[3], ","), name) && fields[2] != gid && !slices.Contains(also, fields[2]) {
			also = append(also, fields[2])
		}
	}
	if gid == "" {
		return "", "", fmt.Errorf("there is no group %q in /etc/group of %s: give a number (-u UID:GID)", group, s.name)
	}
	// The group itself is a supplementary one too: whoever changes groups later keeps its files.
	ids = uid + ":" + gid + ":" + strings.Join(append([]string{gid}, also...), ",")
	if strings.Trim(ids, "0123456789:,") != "" {
		return "", "", fmt.Errorf("the ids of %q in %s are no numbers", v, s.name)
	}
	return ids, home, nil
}

// table takes a file like passwd(5) apart: lines with n or more fields.
func table(b []byte, n int) [][]string {
	var rows [][]string
	for _, line := range strings.Split(string(b), "\n") {
		if fields := strings.Split(line, ":"); len(fields) >= n {
			rows = append(rows, fields)
		}
	}
	return rows
}
