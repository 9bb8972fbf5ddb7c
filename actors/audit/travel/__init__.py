"""Sessions as they were: state at a moment, differences, forks, runs made again, replay."""
