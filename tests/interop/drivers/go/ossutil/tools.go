//go:build tools

// Package ossutil names the program, so that its module stands in go.mod.
package ossutil

import _ "github.com/aliyun/ossutil"
