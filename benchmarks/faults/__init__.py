"""What runs have to survive, done to them many times and counted: kills, full disks, damaged files, hostile input."""
