"""Pictures of lines, the same to the bit wherever they are drawn"""
