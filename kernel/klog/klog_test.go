package klog

import (
	"bytes"
	"strings"
	"testing"
)

func TestLevels(t *testing.T) {
	var b bytes.Buffer
	SetOutput(&b)
	defer SetOutput(nil)
	defer SetLevel(Warning)
	Infof("dropped")
	Warnf("kept %d", 1)
	SetLevel(Debug)
	Debugf("kept %d\n", 2)
	got := b.String()
	if strings.Contains(got, "dropped") || !strings.Contains(got, "warning: kept 1\n") || !strings.HasSuffix(got, "debug: kept 2\n") {
		t.Errorf("log is %q", got)
	}
}

func TestParse(t *testing.T) {
	if l, err := Parse("info"); err != nil || l != Info {
		t.Errorf("Parse(info) = %v, %v", l, err)
	}
	if _, err := Parse("loud"); err == nil {
		t.Error("Parse(loud) succeeded")
	}
}
