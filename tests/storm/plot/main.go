// Command plot draws what the storm bench has measured: for each kernel one figure of each quantity against the number of
// processors, as SVG and as PNG, with a line for each contender.
//
//	go run . STORM.JSON FOLDER
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: plot STORM.JSON FOLDER")
		os.Exit(2)
	}
	if err := drawAll(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

// drawAll reads the runs and writes all figures into the folder.
func drawAll(input, folder string) error {
	text, err := os.ReadFile(input)
	if err != nil {
		return err
	}
	var file struct {
		Host string `json:"host"`
		Runs []run  `json:"runs"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return fmt.Errorf("%s: %w", input, err)
	}
	for _, f := range figures(file.Runs) {
		if err := f.save(folder, file.Host); err != nil {
			return err
		}
	}
	return nil
}
