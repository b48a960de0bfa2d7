// Package docs tests the documentation against the tree: its links lead somewhere, and it names what there is.
package docs
