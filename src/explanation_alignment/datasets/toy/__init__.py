"""Small generated stand-ins, written in the very layouts of the real archives."""
