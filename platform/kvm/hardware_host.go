//go:build !elver

package kvm

import "errors"

// Init fails on the host, whose devices belong to another kernel.
func Init(Facts) (*Machine, error) {
	return nil, errors.New("platform: this is not the image: there is no machine to drive")
}
