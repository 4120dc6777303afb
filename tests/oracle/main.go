// The question to Masterminds/semver, the library that Helm uses: which constraints it takes, and which versions satisfy them.
//
// Reads one JSON object a line, {"constraint": …, "versions": […]}, and answers each with {"valid": …, "matches": […]}: the versions
// in the order of the question that StrictNewVersion takes and that satisfy the constraint.
package main

import (
	"bufio"
	"encoding/json"
	"os"

	"github.com/Masterminds/semver/v3"
)

type question struct {
	Constraint string   `json:"constraint"`
	Versions   []string `json:"versions"`
}

type answer struct {
	Valid   bool     `json:"valid"`
	Matches []string `json:"matches"`
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 0, 1<<20), 1<<26)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in.Scan() {
		var q question
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			panic(err)
		}
		a := answer{Matches: []string{}}
		if c, err := semver.NewConstraint(q.Constraint); err == nil {
			a.Valid = true
			for _, text := range q.Versions {
				if v, err := semver.StrictNewVersion(text); err == nil && c.Check(v) {
					a.Matches = append(a.Matches, text)
				}
			}
		}
		line, err := json.Marshal(a)
		if err != nil {
			panic(err)
		}
		out.Write(line)
		out.WriteByte('\n')
		out.Flush()
	}
}
