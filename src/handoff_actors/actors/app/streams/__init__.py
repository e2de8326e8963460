"""The app's side of streams: carries out what a stream's machine decides."""
