"""From the captured graph to the folded one, and from that to the files of each format. One pass a file."""
