package config

import (
	"path/filepath"
	"reflect"
	"strings"
)

// relativeTo has every path in a configuration that is not absolute begin in a directory, that of the file: what a
// file names is found wherever padlock is started. Fields with paths have the tag path.
func relativeTo(dir string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			relativeTo(dir, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			relativeTo(dir, v.Index(i))
		}
	case reflect.Struct:
		if t, ok := v.Addr().Interface().(*Target); ok {
			if t.Network == "unix" {
				t.Address = fileIn(dir, t.Address)
			}
			return
		}

		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() {
				continue
			}

			if kind := field.Tag.Get("path"); kind != "" {
				pathsIn(dir, v.Field(i), kind)
			} else {
				relativeTo(dir, v.Field(i))
			}
		}
	}
}

// pathsIn resolves one field: a path ("yes"), a path behind a prefix ("unix:", "file:"), or a path unless it is a URL
// or one of the names of streams ("or").
func pathsIn(dir string, v reflect.Value, kind string) {
	if v.Kind() == reflect.Slice {
		for i := range v.Len() {
			pathsIn(dir, v.Index(i), kind)
		}
		return
	}

	if v.Kind() == reflect.Map {
		for _, key := range v.MapKeys() {
			path := reflect.New(v.Type().Elem()).Elem()
			path.Set(v.MapIndex(key))
			pathsIn(dir, path, kind)
			v.SetMapIndex(key, path)
		}
		return
	}

	text := v.String()
	switch kind {
	case "yes":
		v.SetString(fileIn(dir, text))
	case "or":
		if text != "stdout" && text != "stderr" && text != "off" && !strings.Contains(text, "://") {
			v.SetString(fileIn(dir, text))
		}
	default:
		if path, ok := strings.CutPrefix(text, kind); ok && !strings.HasPrefix(path, "//") {
			v.SetString(kind + fileIn(dir, path))
		}
	}
}

func fileIn(dir, path string) string {
	if path == "" || dir == "." || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
