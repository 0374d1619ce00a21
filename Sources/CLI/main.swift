print("neti")
