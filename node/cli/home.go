package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// home is where this user's node keeps its state: $WEFT_HOME, or the system's
// place for a user's data.
func home() (string, error) {
	if h := os.Getenv("WEFT_HOME"); h != "" {
		return filepath.Abs(h)
	}
	h, err := dataHome(runtime.GOOS, os.Getenv)
	if err != nil {
		return "", fmt.Errorf("find the home of weft: %w; set WEFT_HOME", err)
	}
	return h, nil
}

func dataHome(system string, env func(string) string) (string, error) {
	user := env("HOME")
	switch system {
	case "windows":
		if d := env("LocalAppData"); d != "" {
			return filepath.Join(d, "weft"), nil
		}
		return "", fmt.Errorf("%%LocalAppData%% is not set")
	case "darwin", "ios":
		if user != "" {
			return filepath.Join(user, "Library", "Application Support", "weft"), nil
		}
	default:
		if d := env("XDG_DATA_HOME"); filepath.IsAbs(d) {
			return filepath.Join(d, "weft"), nil
		}
		if user != "" {
			return filepath.Join(user, ".local", "share", "weft"), nil
		}
	}
	return "", fmt.Errorf("$HOME is not set")
}

func defaultHomeForPeople() string {
	h, err := dataHome(runtime.GOOS, os.Getenv)
	if err != nil {
		return "the user's data directory"
	}
	return shortHome(h)
}

// shortHome writes the user's home directory as ~.
func shortHome(path string) string {
	user, err := os.UserHomeDir()
	if err != nil || user == "" || user == "/" {
		return path
	}
	if rel, err := filepath.Rel(user, path); err == nil && filepath.IsLocal(rel) {
		return filepath.Join("~", rel)
	}
	return path
}

// existing is the nearest directory above path that exists, path itself first.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || filepath.Dir(path) == path {
			return path
		}
		path = filepath.Dir(path)
	}
}
